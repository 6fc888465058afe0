"""Run a recipe: every step that is not done already.

What has finished, in this run or in another one in the same folder of runs, is not run again
unless something that determines it has changed.
"""

from __future__ import annotations

import argparse

from aligner.cli.shared.recipes import add_recipe_arguments

NAME = "run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="say only what goes wrong")
    loudness.add_argument(
        "--verbose", action="store_true", help="show every metric, and the tracebacks of errors"
    )


def run(arguments: argparse.Namespace) -> int:
    # Loads rich, pydantic and the plugins, which --help does without.
    from aligner.cli.shared.running import run_recipe

    run_recipe(arguments)
    return 0
