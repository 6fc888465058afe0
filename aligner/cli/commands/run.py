"""Run a recipe: every step that has not finished yet.

A step that finished, in this run or in another run of the same folder, is reused unless something
that determines its result has changed.
"""

from __future__ import annotations

import argparse

from aligner.cli.arguments import add_recipe_arguments

NAME = "run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    verbosity = parser.add_mutually_exclusive_group()
    verbosity.add_argument("--quiet", action="store_true", help="Print only errors.")
    verbosity.add_argument(
        "--verbose", action="store_true", help="Print all metrics, and the tracebacks of errors."
    )


def run(arguments: argparse.Namespace) -> int:
    # Loads rich, pydantic and the plugins, which --help does without.
    from aligner.cli.actions.run import run_recipe

    run_recipe(arguments)
    return 0
