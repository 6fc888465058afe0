"""Merge a recipe into the one it extends, step by step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aligner.errors import AlignerError, RecipeError, did_you_mean
from aligner.recipe.names import KEYS, step_name
from aligner.recipe.source import RecipeSource, read_source
from aligner.recipe.tree import Value, show

MAX_PARENTS = 16


@dataclass
class RecipeTree:
    """Keys of a recipe, and its steps by name, as merged so far."""

    keys: dict[str, Value] = field(default_factory=dict)
    steps: dict[str, Value] = field(default_factory=dict)
    refused: list[Value] = field(default_factory=list)
    """Entries without a valid, unique step name; their content is checked anyway."""
    complete: bool = True
    """False if parts could not be read; a missing name is then not reported as an error."""


def resolve_extends(
    source: RecipeSource, *, environment: Mapping[str, str], errors: list[AlignerError]
) -> RecipeTree:
    """Return `source` merged into the recipes that it extends; add errors to `errors`."""
    return _merge_source(source, environment, errors, (source,))


def merged(old: Value, new: Value) -> Value:
    """Merge `new` into `old`: mappings entry by entry; any other value replaces the old one."""
    if not isinstance(old.data, dict) or not isinstance(new.data, dict):
        return new
    entries = dict(old.data)
    for key, value in new.data.items():
        entries[key] = merged(entries[key], value) if key in entries else value
    return Value(entries, new.where)


def _merge_source(
    source: RecipeSource,
    environment: Mapping[str, str],
    errors: list[AlignerError],
    children: tuple[RecipeSource, ...],
) -> RecipeTree:
    keys = _keys(source, errors)
    tree = RecipeTree()
    if "extends" in keys and not keys["extends"].invalid:
        tree = _parent(source, keys["extends"], environment, errors, children)
        for key in ("name", "description"):  # they describe the parent, not this recipe
            tree.keys.pop(key, None)
    tree.complete &= not any(value.invalid for value in keys.values())
    keys = {key: value for key, value in keys.items() if not value.invalid}
    tree.keys |= {key: value for key, value in keys.items() if key not in ("extends", "drop")}
    if "drop" in keys:
        _drop(keys["drop"], tree, errors, extends="extends" in keys)
    if "steps" in keys:
        _add_steps(keys["steps"], tree, errors, extends="extends" in keys)
    return tree


def _keys(source: RecipeSource, errors: list[AlignerError]) -> dict[str, Value]:
    tree = source.tree
    if not isinstance(tree.data, dict):
        raise RecipeError(
            f"a recipe is a mapping of keys, and this is {show(tree.plain())}",
            where=tree.where,
            hint=f"keys: {', '.join(KEYS)}",
        )
    for key, value in tree.data.items():
        if key not in KEYS:
            errors.append(
                RecipeError(
                    f"a recipe has no key {show(key)}",
                    where=value.where,
                    hint=did_you_mean(key, KEYS),
                )
            )
    return {key: value for key, value in tree.data.items() if key in KEYS}


def _parent(
    source: RecipeSource,
    extends: Value,
    environment: Mapping[str, str],
    errors: list[AlignerError],
    children: tuple[RecipeSource, ...],
) -> RecipeTree:
    """Return the recipe that `source` extends, up to and including `until`."""
    try:
        name, until = _parent_named(extends)
        parent = _open_parent(source, name, extends.where, environment, errors, children)
        tree = _merge_source(parent, environment, errors, (*children, parent))
    except RecipeError as error:
        errors.append(error)
        return RecipeTree(complete=False)
    if until is not None:
        if until.data in tree.steps:
            names = list(tree.steps)
            included = names[: names.index(str(until.data)) + 1]
            tree.steps = {step: tree.steps[step] for step in included}
        elif tree.complete:
            errors.append(_no_step(until, tree.steps, f"{parent.label} has no step"))
    return tree


def _parent_named(extends: Value) -> tuple[str, Value | None]:
    how = "write 'extends: base.yaml', or 'extends: {recipe: base.yaml, until: STEP}'"
    if isinstance(extends.data, str):
        return extends.data, None
    if not isinstance(extends.data, dict):
        raise RecipeError(
            f"'extends' is {show(extends.plain())}, not the path of a recipe",
            where=extends.where,
            hint=how,
        )
    for key, value in extends.data.items():
        if key not in ("recipe", "until") or not isinstance(value.data, str):
            what = f"{show(key)} is {show(value.plain())}, not text"
            if key not in ("recipe", "until"):
                what = f"'extends' has no key {show(key)}"
            raise RecipeError(what, where=value.where, hint=how)
    if "recipe" not in extends.data:
        raise RecipeError("'extends' needs 'recipe'", where=extends.where, hint=how)
    return str(extends.data["recipe"].data), extends.data.get("until")


def _open_parent(
    source: RecipeSource,
    name: str,
    where: str,
    environment: Mapping[str, str],
    errors: list[AlignerError],
    children: tuple[RecipeSource, ...],
) -> RecipeSource:
    if not name.isprintable():
        raise RecipeError(f"'extends' is {name!a}, which is no path", where=where)
    if "://" in name:
        raise RecipeError(
            f"'extends' is the URL {show(name)}", where=where, hint="save it next to this recipe"
        )
    if not name.endswith((".yaml", ".yml")):
        raise RecipeError(f"'extends' is {show(name)}, not the path of a .yaml file", where=where)
    label = os.path.normpath(os.path.join(os.path.dirname(source.label), name))
    path = source.folder / name
    for child in children:
        if child.path is not None and _same(path, child.path):
            chain = " → ".join([*(other.label for other in children), label])
            raise RecipeError(
                "recipes extend one another in a circle", where=where, hint=f"the circle: {chain}"
            )
    if len(children) == MAX_PARENTS:
        raise RecipeError(f"more than {len(children)} recipes extend one another", where=where)
    return read_source(path, label=label, asked=where, environment=environment, errors=errors)


def _same(path: os.PathLike[str], other: os.PathLike[str]) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def _drop(drop: Value, tree: RecipeTree, errors: list[AlignerError], *, extends: bool) -> None:
    names = drop.data if isinstance(drop.data, list) else [drop]
    for name in names:
        if not isinstance(name.data, str):
            what = f"'drop' is {show(name.plain())}, not the names of steps"
            errors.append(RecipeError(what, where=name.where, hint="write 'drop: [NAME, NAME]'"))
        elif not extends:
            what = f"'drop' names {show(name.data)}, and this recipe extends no other"
            errors.append(RecipeError(what, where=name.where, hint="delete the step itself"))
        elif name.data not in tree.steps:
            if tree.complete:
                errors.append(_no_step(name, tree.steps, "the extended recipe has no step"))
        else:
            del tree.steps[name.data]


def _add_steps(
    steps: Value, tree: RecipeTree, errors: list[AlignerError], *, extends: bool
) -> None:
    if not isinstance(steps.data, list):
        what = f"'steps' is {show(steps.plain())}, not a list"
        hint = "begin each step with '- stage: NAME'"
        errors.append(RecipeError(what, where=steps.where, hint=hint))
        tree.complete = False
        return
    inherited = frozenset(tree.steps)
    here: dict[str, str] = {}
    for entry in steps.data:
        if entry.invalid or any(_entry_is_invalid(entry, key) for key in ("stage", "as")):
            tree.complete = False
            continue
        try:
            name = step_name(entry)
            if name in here:
                raise RecipeError(
                    f"two steps are called {name!r}",
                    where=entry.where,
                    hint=f"the first is at {here[name]}; give one its own name with 'as:'",
                )
            here[name] = entry.where
            if name in inherited:
                _merge_step(name, entry, tree)
            else:
                _insert_step(name, entry, tree, extends=extends)
        except RecipeError as error:
            errors.append(error)
            tree.refused.append(entry)


def _entry_is_invalid(value: Value, key: str) -> bool:
    return isinstance(value.data, dict) and key in value.data and value.data[key].invalid


def _merge_step(name: str, entry: Value, tree: RecipeTree) -> None:
    """Merge `entry` into the step of the same name in the extended recipe."""
    old = tree.steps[name]
    assert isinstance(entry.data, dict)
    assert isinstance(old.data, dict)
    for key in ("after", "before"):
        if key in entry.data:
            raise RecipeError(
                f"{key!r} would move step {name!r} of the extended recipe",
                where=entry.data[key].where,
                hint=f"a merged step keeps its position; or 'drop: [{name}]' and write it under a new name",
            )
    if "stage" in entry.data and "stage" in old.data:
        new_stage, old_stage = entry.data["stage"], old.data["stage"]
        if new_stage.data != old_stage.data:
            raise RecipeError(
                f"step {name!r} is {show(new_stage.plain())} here and "
                f"{show(old_stage.plain())} at {old_stage.where}",
                where=new_stage.where,
                hint=f"give it another name with 'as:', and 'drop: [{name}]'",
            )
    tree.steps[name] = merged(old, entry)


def _insert_step(name: str, entry: Value, tree: RecipeTree, *, extends: bool) -> None:
    """Insert a new step at the end, or next to the step named by `after` or `before`."""
    assert isinstance(entry.data, dict)
    if "stage" not in entry.data:
        if not tree.complete:
            return
        hint = did_you_mean(name, tree.steps) if extends else "begin it with '- stage: NAME'"
        what = f"step {name!r} has no 'stage'"
        if extends:
            what += ", and the extended recipe no step of that name"
        raise RecipeError(what, where=entry.where, hint=hint)
    positions = [key for key in ("after", "before") if key in entry.data]
    if len(positions) == 2:
        raise RecipeError(
            f"step {name!r} has both 'after' and 'before'",
            where=entry.data["before"].where,
            hint="keep one",
        )
    rest = {key: value for key, value in entry.data.items() if key not in positions}
    names = list(tree.steps)
    at = len(names)
    if positions and tree.complete:
        neighbor = entry.data[positions[0]]
        if neighbor.data not in tree.steps:
            raise _no_step(neighbor, tree.steps, f"{positions[0]!r} names no step before this one:")
        at = names.index(str(neighbor.data)) + (positions[0] == "after")
    names.insert(at, name)
    steps = tree.steps | {name: Value(rest, entry.where)}
    tree.steps = {step: steps[step] for step in names}


def _no_step(value: Value, known: Iterable[str], what: str) -> RecipeError:
    return RecipeError(
        f"{what} {show(value.plain())}",
        where=value.where,
        hint=did_you_mean(str(value.plain()), known),
    )
