"""Open the one file asked for, and have it read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from aligner.errors import AlignerError, RecipeError
from aligner.recipe.tree import Value, read_tree

LARGEST_FILE = 64 * 1024
"""Bytes; ready recipes have one to four thousand."""


@dataclass(frozen=True)
class RecipeSource:
    """One recipe as written, before anything it extends."""

    tree: Value
    shown: str
    """The path as the user gave it, or `recipe` for a mapping."""
    path: Path | None
    folder: Path


def read_source(
    path: Path,
    *,
    shown: str,
    asked: str,
    environment: Mapping[str, str],
    errors: list[AlignerError],
) -> RecipeSource:
    """The recipe at `path`; `asked` is where it was named, empty for the command line.

    Raises:
        RecipeError: It is no file, cannot be opened, is too large, no UTF-8 or no YAML.
    """
    text = _text(path, shown, asked)
    tree = read_tree(
        text, context=lambda line: f"{shown}:{line}", environment=environment, errors=errors
    )
    if tree.data is None:
        raise RecipeError(
            "the recipe is empty",
            where=shown,
            hint="it needs at least 'steps:', a list whose entries begin with '- stage: NAME'",
        )
    return RecipeSource(tree, shown, path, path.parent)


def _text(path: Path, shown: str, asked: str) -> str:
    where = asked or shown
    named = f"the recipe it extends, {shown}," if asked else "this"
    try:
        if not path.exists():
            what = f"{named} does not exist" if asked else "there is no such file"
            raise RecipeError(what, where=where, hint=_nearby(path))
        if not path.is_file():
            raise RecipeError(f"{named} is not a file", where=where, hint=_nearby(path))
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        why = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"{named} cannot be read: {why}", where=where) from None
    if len(raw) > LARGEST_FILE:
        what = f"{named} has more than {LARGEST_FILE // 1024} KiB"
        raise RecipeError(what, where=where, hint="is it data rather than a recipe?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"the byte 0x{raw[error.start]:02x} is not UTF-8",
            where=f"{shown}:{line}",
            hint="save the file as UTF-8",
        ) from None


def _nearby(path: Path) -> str:
    """What may have been meant instead of `path`, which is no file."""
    if path.is_dir():
        return "name a .yaml file in it"
    if not path.parent.is_dir():
        return f"there is no folder {os.fspath(path.parent)!r} either"
    others = (one for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml"))
    recipes = {one.stem: one for one in others if one.name != path.name}
    near = get_close_matches(path.stem, recipes, n=1)
    return f"did you mean {os.fspath(recipes[near[0]])!r}?" if near else ""
