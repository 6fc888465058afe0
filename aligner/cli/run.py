"""Run a recipe: every step that is not done already.

What has finished, in this run or in another one of the same folder of runs, is not run again
unless something that determines it has changed."""

from __future__ import annotations

import argparse
import re

from aligner.cli.shared.recipes import add_recipe_arguments

NAME = "run"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument(
        "--name", metavar="RUN", type=_run_name, help="the run's name (default: the recipe's)"
    )
    parser.add_argument("--until", metavar="STEP", help="stop after this step")
    parser.add_argument(
        "--from", metavar="STEP", dest="start_from", help="run this step and all after it again"
    )
    parser.add_argument("--fresh", action="store_true", help="run every step again")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="say only what goes wrong")
    loudness.add_argument(
        "--verbose", action="store_true", help="show every figure, and the tracebacks of errors"
    )


def run(arguments: argparse.Namespace) -> int:
    # Loads rich, pydantic and the plugins, which --help does without.
    from aligner.cli.shared.running import run_recipe

    run_recipe(arguments)
    return 0


def _run_name(text: str) -> str:
    if not _RUN_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name: letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return text
