"""Open and parse one recipe file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from aligner.errors import AlignerError, RecipeError
from aligner.recipe.tree import Value, read_tree

LARGEST_FILE = 64 * 1024
"""Bytes; the bundled recipes have one to four thousand."""


@dataclass(frozen=True)
class RecipeSource:
    """One recipe as written, without those it extends."""

    tree: Value
    label: str
    """The path as the user gave it, or `recipe` for a mapping."""
    path: Path | None
    folder: Path


def read_source(
    path: Path,
    *,
    label: str,
    asked: str,
    environment: Mapping[str, str],
    errors: list[AlignerError],
) -> RecipeSource:
    """Return the recipe at `path`; `asked` is the location that names it, empty for the command line.

    Raises:
        RecipeError: It is not a file, cannot be opened, is too large, or is not UTF-8 or YAML.
    """
    text = _text(path, label, asked)
    tree = read_tree(
        text, location_of=lambda line: f"{label}:{line}", environment=environment, errors=errors
    )
    if tree.data is None:
        raise RecipeError(
            "the recipe is empty",
            where=label,
            hint="it needs at least 'steps:', a list whose entries begin with '- stage: NAME'",
        )
    return RecipeSource(tree, label, path, path.parent)


def _text(path: Path, label: str, asked: str) -> str:
    where = asked or label
    named = f"the recipe it extends, {label}," if asked else "this"
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
            where=f"{label}:{line}",
            hint="save the file as UTF-8",
        ) from None


def _nearby(path: Path) -> str:
    """Suggest a file for `path`, which is not a file."""
    if path.is_dir():
        return "name a .yaml file in it"
    if not path.parent.is_dir():
        return f"there is no folder {os.fspath(path.parent)!r} either"
    others = (file for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml"))
    recipes = {file.stem: file for file in others if file.name != path.name}
    near = get_close_matches(path.stem, recipes, n=1)
    return f"did you mean {os.fspath(recipes[near[0]])!r}?" if near else ""
