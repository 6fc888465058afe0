"""Names of recipes and steps: words that are valid in paths, overrides and tables."""

from __future__ import annotations

import re

from aligner.errors import RecipeError
from aligner.recipe.tree import Value, show

KEYS = ("name", "description", "extends", "drop", "seed", "model", "steps")
RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RECIPE_NAME_HINT = "1 to 128 letters, digits, '.', '-' and '_', a letter or digit first"
_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def step_name(entry: Value) -> str:
    """Return the name of the step in `entry`: the value of `as`, or of `stage`.

    Raises:
        RecipeError: The entry is not a mapping, or its name is missing or invalid.
    """
    if not isinstance(entry.data, dict):
        raise RecipeError(
            f"a step is {show(entry.plain())}, not a mapping",
            where=entry.where,
            hint="begin it with '- stage: NAME', its options on the lines below",
        )
    for key in ("stage", "as"):
        if key in entry.data and not isinstance(entry.data[key].data, str):
            raise RecipeError(
                f"{key!r} is {show(entry.data[key].plain())}, not a name",
                where=entry.data[key].where,
            )
    named = entry.data.get("as", entry.data.get("stage"))
    if named is None:
        raise RecipeError(
            "a step has neither 'stage' nor 'as'",
            where=entry.where,
            hint="begin it with '- stage: NAME'",
        )
    name = str(named.data)
    if not _STEP_NAME.fullmatch(name):
        raise RecipeError(
            f"{show(name)} cannot name a step",
            where=named.where,
            hint="1 to 64 letters, digits, '-' and '_', a letter or digit first",
        )
    if name in KEYS:
        raise RecipeError(
            f"a step cannot be called {name!r}, which is a key of the recipe",
            where=named.where,
            hint="give it another name with 'as:'",
        )
    return name
