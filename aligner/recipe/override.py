"""Apply `--set step.option=value` to a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aligner.errors import AlignerError, RecipeError, did_you_mean
from aligner.recipe.extends import RecipeTree
from aligner.recipe.tree import DEEPEST, Value, printable, read_tree, show

TOP = ("name", "description", "seed", "model")
FIXED = ("stage", "as", "after", "before")
"""Keys that identify a step and its position; overrides cannot change them."""


def apply_overrides(
    overrides: Sequence[str],
    tree: RecipeTree,
    *,
    environment: Mapping[str, str],
    errors: list[AlignerError],
) -> None:
    """Apply the overrides to `tree` in order; add errors to `errors`."""
    for text in overrides:
        try:
            _apply(text, tree, environment, errors)
        except RecipeError as error:
            errors.append(error)


def _apply(
    text: str, tree: RecipeTree, environment: Mapping[str, str], errors: list[AlignerError]
) -> None:
    where = _where(text)
    key, equals, written = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(
            "an override is KEY=VALUE",
            where=where,
            hint="--set STEP.OPTION=VALUE, as in --set seed=3",
        )
    if len(path) > DEEPEST // 2:
        raise RecipeError(f"the key has more than {DEEPEST // 2} levels", where=where)
    # The location of every line is the override itself.
    value = read_tree(written, location_of=lambda _: where, environment=environment, errors=errors)
    _assign(path, Value(value.data, where), tree, where)


def _where(text: str) -> str:
    text = printable(text)
    return f"--set {text}" if len(text) <= 80 else f"--set {text[:60]}…"


def _assign(path: list[str], value: Value, tree: RecipeTree, where: str) -> None:
    first, *rest = path
    if first in TOP:
        old = tree.keys.get(first)
        if rest and old is not None and isinstance(old.data, str) and first == "model":
            old = Value({"path": old}, old.where)  # `model: NAME` is short for `{path: NAME}`
        tree.keys[first] = _set(old, rest, value, first, where)
        return
    if first not in tree.steps:
        known = [*tree.steps, *TOP]
        what = f"no step is called {show(first)}"
        if tree.complete:
            raise RecipeError(what, where=where, hint=did_you_mean(first, known))
        return
    if not rest:
        raise RecipeError(
            f"{first!r} is a step, and an override sets one of its options",
            where=where,
            hint=f"--set {first}.OPTION=VALUE",
        )
    if rest[0] in FIXED:
        raise RecipeError(
            f"{rest[0]!r} of a step cannot be overridden", where=where, hint="edit the recipe"
        )
    step = tree.steps[first]
    tree.steps[first] = Value(_set(step, rest, value, first, where).data, step.where)


def _set(old: Value | None, path: list[str], value: Value, so_far: str, where: str) -> Value:
    """Return `old` with `value` at `path`; missing mappings on the path are created."""
    if not path:
        return value
    first, *rest = path
    inner = f"{so_far}.{first}"
    if old is None or old.data is None:
        return Value({first: _set(None, rest, value, inner, where)}, where)
    if isinstance(old.data, dict):
        entry = _set(old.data.get(first), rest, value, inner, where)
        return Value({**old.data, first: entry}, old.where)
    if isinstance(old.data, list):
        if first.isascii() and first.isdigit() and int(first[:9]) < len(old.data):
            items = list(old.data)
            items[int(first)] = _set(items[int(first)], rest, value, inner, where)
            return Value(items, old.where)
        raise RecipeError(
            f"{so_far!r} is a list of {len(old.data)}, and has no entry {show(first)}",
            where=where,
            hint="the first entry is 0",
        )
    raise RecipeError(
        f"{so_far!r} is {show(old.plain())}, and has no entry {show(first)}",
        where=where,
        hint=f"set the whole value: --set '{so_far}={{{first}: …}}'",
    )
