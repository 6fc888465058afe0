"""Read a recipe from a file or a mapping, and report all errors together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aligner.errors import AlignerError, ErrorGroup, RecipeError, did_you_mean
from aligner.recipe.bound import Bound
from aligner.recipe.extends import RecipeTree, resolve_extends
from aligner.recipe.mapping import tree_of
from aligner.recipe.names import RECIPE_NAME, RECIPE_NAME_HINT
from aligner.recipe.override import apply_overrides
from aligner.recipe.recipe import ModelSpec, RecipeSpec, StepSpec
from aligner.recipe.source import RecipeSource, read_source
from aligner.recipe.tree import Value, show

_OWN_KEYS = ("stage", "as", "gate")
LARGEST_SEED = 2**32 - 1
"""Limit of NumPy."""


def read_recipe(
    path: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    keep_going: bool = False,
) -> RecipeSpec:
    """Read the recipe at `path` and the recipes it extends.

    Args:
        path: The YAML file.
        overrides: `STEP.OPTION=VALUE`, `seed=VALUE`, `model=VALUE`: replace values of the file.
        environment: Variables for `${NAME}`.
        keep_going: Return the readable part with its errors, so that a check finds further errors;
            raise only if nothing is readable.

    Raises:
        RecipeError: One error, with file and line.
        ErrorGroup: Several errors.
    """
    label = os.fspath(path)
    errors: list[AlignerError] = []
    source = read_source(Path(path), label=label, asked="", environment=environment, errors=errors)
    return _recipe(source, overrides, environment, errors, keep_going=keep_going)


def recipe_from(mapping: Mapping[str, Any], *, folder: str | os.PathLike[str]) -> RecipeSpec:
    """Return the recipe in `mapping`, for recipes built in Python.

    Values are used as they are: `${NAME}` is not replaced. Errors have locations such as
    `steps[2].learning_rate`.

    Raises:
        RecipeError: One error.
        ErrorGroup: Several errors.
    """
    errors: list[AlignerError] = []
    source = RecipeSource(tree_of(mapping, errors), "recipe", None, Path(folder))
    return _recipe(source, (), {}, errors)


def _recipe(
    source: RecipeSource,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    errors: list[AlignerError],
    *,
    keep_going: bool = False,
) -> RecipeSpec:
    try:
        tree = resolve_extends(source, environment=environment, errors=errors)
    except RecipeError as error:
        ErrorGroup.raise_if_any(_by_line([*errors, error]))
        raise
    apply_overrides(overrides, tree, environment=environment, errors=errors)
    name = _name(source, tree, errors)
    model, model_where = _model(source, tree, errors)
    recipe = RecipeSpec(
        name=name,
        description=_text(tree, "description", errors),
        model=model,
        model_where=model_where,
        seed=_seed(tree, errors),
        steps=tuple(_steps(source, tree, errors)),
        path=source.path,
        folder=source.folder,
    )
    if not keep_going:
        ErrorGroup.raise_if_any(_by_line(errors))
    return replace(recipe, errors=tuple(_by_line(errors)))


def _by_line(errors: Sequence[AlignerError]) -> list[AlignerError]:
    """Sort errors by file (in order of appearance) and line; overrides come last."""
    files: dict[str, int] = {}

    def position(error: AlignerError) -> tuple[int, int]:
        file, _, line = error.where.rpartition(":")
        if error.where.startswith("--set") or not line.isdecimal():
            return len(errors), 0
        return files.setdefault(file, len(files)), int(line)

    return sorted(errors, key=position)


def _name(source: RecipeSource, tree: RecipeTree, errors: list[AlignerError]) -> str:
    if "name" in tree.keys:
        value = tree.keys["name"]
        if isinstance(value.data, str) and RECIPE_NAME.fullmatch(value.data):
            return value.data
        what = f"'name' is {show(value.plain())}, which cannot name a run"
        errors.append(RecipeError(what, where=value.where, hint=RECIPE_NAME_HINT))
        return ""
    name = source.path.stem if source.path else "recipe"
    if not RECIPE_NAME.fullmatch(name):
        what = f"the recipe has no 'name', and its file's, {show(name)}, cannot name a run"
        errors.append(
            RecipeError(
                what, where=source.tree.where, hint=f"write 'name:' with {RECIPE_NAME_HINT}"
            )
        )
    return name


def _text(tree: RecipeTree, key: str, errors: list[AlignerError]) -> str:
    if key not in tree.keys:
        return ""
    value = tree.keys[key]
    if isinstance(value.data, str):
        return value.data
    errors.append(RecipeError(f"{key!r} is {show(value.plain())}, not text", where=value.where))
    return ""


def _seed(tree: RecipeTree, errors: list[AlignerError]) -> int:
    if "seed" not in tree.keys:
        return 0
    value = tree.keys["seed"]
    seed = value.data
    if isinstance(seed, str) and re.fullmatch(r"[0-9]{1,10}", seed, re.ASCII):
        seed = int(seed)  # the value of a variable is text
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= LARGEST_SEED:
        return seed
    what = f"'seed' is {show(value.plain())}, not a whole number from 0 to {LARGEST_SEED}"
    errors.append(RecipeError(what, where=value.where))
    return 0


def _model(
    source: RecipeSource, tree: RecipeTree, errors: list[AlignerError]
) -> tuple[ModelSpec | None, str]:
    if "model" not in tree.keys:
        return None, source.tree.where
    value = tree.keys["model"]
    how = "write 'model: FOLDER_OR_HUB_ID', or 'model: {path: …, revision: …}'"
    entries = value.data if isinstance(value.data, dict) else {"path": value}
    before = len(errors)
    for key, entry in entries.items():
        if key not in ("path", "revision"):
            hint = did_you_mean(key, ("path", "revision"))
            what = f"'model' has no key {show(key)}"
            errors.append(RecipeError(what, where=entry.where, hint=hint))
        elif not entry.invalid and (not isinstance(entry.data, str) or not entry.data):
            named = "model" if entry is value else f"model.{key}"
            what = f"{named!r} is {show(entry.plain() or None)}, not text"
            errors.append(RecipeError(what, where=entry.where, hint=how))
    if "path" not in entries:
        errors.append(RecipeError("'model' needs 'path'", where=value.where, hint=how))
    if len(errors) > before:
        return None, value.where
    revision = str(entries["revision"].data) if "revision" in entries else None
    return ModelSpec(path=str(entries["path"].data), revision=revision), value.where


def _steps(
    source: RecipeSource, tree: RecipeTree, errors: list[AlignerError]
) -> Iterator[StepSpec]:
    if not tree.steps and tree.complete and not errors:
        where = tree.keys["steps"].where if "steps" in tree.keys else source.tree.where
        hint = "write 'steps:', a list whose entries begin with '- stage: NAME'"
        errors.append(RecipeError("the recipe has no steps", where=where, hint=hint))
    for entry in tree.refused:
        if isinstance(entry.data, dict):
            _gate(entry.data.get("gate"), errors)
    for name, entry in tree.steps.items():
        assert isinstance(entry.data, dict)
        yield StepSpec(
            stage=str(entry.data["stage"].data),
            name=name,
            options={k: v.plain() for k, v in entry.data.items() if k not in _OWN_KEYS},
            gate=_gate(entry.data.get("gate"), errors),
            where=entry.where,
            lines=dict(_lines(entry)),
        )


def _gate(value: Value | None, errors: list[AlignerError]) -> dict[str, Bound]:
    hint = 'write it in quotes: "< 2.5", "<= 2.5", "> 0.9", ">= 0.9", "0.1 .. 0.5"'
    if value is None or value.data is None:
        return {}
    if not isinstance(value.data, dict):
        what = f"'gate' is {show(value.plain())}, not a mapping from metrics to bounds"
        errors.append(RecipeError(what, where=value.where, hint='gate: {eval_loss: "< 2.5"}'))
        return {}
    gate: dict[str, Bound] = {}
    for metric, bound in value.data.items():
        if bound.data is None:  # removed by a recipe that extends this one, or unreadable
            continue
        try:
            if not isinstance(bound.data, str):
                raise ValueError("not a bound")
            gate[metric] = Bound.parse(bound.data)
        except ValueError as error:
            what = f"gate {show(metric)} is {show(bound.plain())}, {error}"
            errors.append(RecipeError(what, where=bound.where, hint=hint))
    return gate


def _lines(value: Value, path: str = "") -> Iterator[tuple[str, str]]:
    items: Iterator[tuple[Any, Value]] = iter(())
    if isinstance(value.data, dict):
        items = iter(value.data.items())
    elif isinstance(value.data, list):
        items = iter(enumerate(value.data))
    for key, item in items:
        inner = f"{path}.{key}" if path else str(key)
        yield inner, item.where
        yield from _lines(item, inner)
