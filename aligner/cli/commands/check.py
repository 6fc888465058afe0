"""Check a recipe without loading weights.

Shows what each step would read, write and train, and which steps have finished already. All errors
are reported at once.
"""

from __future__ import annotations

import argparse

from aligner.cli.arguments import add_json_argument, add_recipe_arguments

NAME = "check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    add_json_argument(parser)
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="Show all counts of the data, and the messages of libraries.",
    )


def run(arguments: argparse.Namespace) -> int:
    # Loads rich, pydantic and the plugins, which --help does without.
    from aligner.cli.actions.check import check_recipe

    return check_recipe(arguments)
