"""Completions of names in the shell: recipes, runs, steps, stages and plugins.

argcomplete calls these functions with the arguments typed so far. They return nothing on an error,
since a completion cannot print one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aligner.cli.startup import load_host

Completer = Callable[..., Iterable[str]]


def set_completer(action: argparse.Action, completer: Completer) -> None:
    """Complete the values of an argument with `completer`."""
    action.completer = completer  # type: ignore[attr-defined]  # argcomplete reads this attribute


def recipe_files(prefix: str, **_: Any) -> Iterable[str]:
    """Return YAML files and folders."""
    from argcomplete.completers import FilesCompleter  # not needed for --help, which must be fast

    names: Iterable[str] = FilesCompleter(("yaml", "yml"))(prefix)
    return names


def run_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    """Return the runs in the folder of runs."""
    return sorted(path.parent.name for path in Path(parsed_args.runs).glob("*/recipe.yaml"))


def step_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    """Return the steps of the recipe or run typed before."""
    from aligner.errors import AlignerError
    from aligner.recipe import read_recipe  # loads pydantic, which --help does without

    recipe, run = getattr(parsed_args, "recipe", None), getattr(parsed_args, "name", None)
    path = (
        Path(parsed_args.runs, run, "recipe.yaml") if recipe is None and run else Path(recipe or "")
    )
    try:
        return [step.name for step in read_recipe(path).steps]
    except (AlignerError, OSError):
        return []


def stage_names(prefix: str, **_: Any) -> Iterable[str]:
    """Return the stages of the installed plugins."""
    from aligner.errors import AlignerError

    try:
        return sorted(load_host(argparse.Namespace(no_plugin=[], only_plugins=None)).stages())
    except AlignerError:
        return []


def plugin_names(prefix: str, **_: Any) -> Iterable[str]:
    """Return the installed plugins; in a list with commas, for its last item."""
    from importlib.metadata import entry_points

    before, comma, _last = prefix.rpartition(",")
    return sorted(before + comma + entry.name for entry in entry_points(group="aligner"))
