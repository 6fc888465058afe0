"""Check a recipe whole, and say what each step would do; nothing is trained or loaded.

Shows what each step reads, writes and trains, and which steps are done already. All errors are
told at once.
"""

from __future__ import annotations

import argparse

from aligner.cli.shared.recipes import add_recipe_arguments

NAME = "check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument("--json", action="store_true", help="write JSON, errors included")
    parser.add_argument(
        "--verbose", action="store_true", help="show all that is known of the data, and messages"
    )


def run(arguments: argparse.Namespace) -> int:
    # Loads rich, pydantic and the plugins, which --help does without.
    from aligner.cli.shared.checking import check_recipe

    return check_recipe(arguments)
