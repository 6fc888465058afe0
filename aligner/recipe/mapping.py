"""Convert Python values to the tree that YAML is parsed into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from aligner.errors import AlignerError, RecipeError
from aligner.recipe.tree import DEEPEST, Value, printable, show

TOO_LARGE = 10**100


def tree_of(value: Any, errors: list[AlignerError], *, where: str = "", depth: int = 0) -> Value:
    """Return `value` as a tree with locations such as `steps[2].learning_rate`; paths become text.

    Raises:
        RecipeError: It contains itself, or is nested too deeply.
    """
    location = where or "recipe"
    if depth > DEEPEST:
        raise RecipeError(f"nested more than {DEEPEST} levels deep", where=where[:80])
    if isinstance(value, Mapping):
        entries: dict[str, Value] = {}
        for key, item in value.items():
            word = printable(str(key))
            inner = f"{where}.{word}" if where else word
            if isinstance(key, str) and key:
                entries[key] = tree_of(item, errors, where=inner, depth=depth + 1)
            else:
                errors.append(RecipeError(f"the key {show(key)} is not a word", where=location))
        return Value(entries, location)
    if isinstance(value, list | tuple):
        items = [
            tree_of(item, errors, where=f"{where}[{number}]", depth=depth + 1)
            for number, item in enumerate(value)
        ]
        return Value(items, location)
    if isinstance(value, PathLike):
        value = fspath(value)
    if value is not None and not isinstance(value, str | int | float):
        what = f"a {type(value).__name__} is neither text, number, list nor mapping"
        errors.append(RecipeError(what, where=location))
        return Value(None, location, invalid=True)
    if isinstance(value, int) and abs(value) >= TOO_LARGE:
        errors.append(RecipeError("a number of more than 100 digits", where=location))
        return Value(None, location, invalid=True)
    if isinstance(value, float) and math.isnan(value):
        errors.append(RecipeError("nan is not a number", where=location))
    return Value(value, location)
