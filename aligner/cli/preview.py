"""Show what the model will see: a recipe's rows token by token, through the collator that trains.

Every token is trained, masked or padding; the counts stand beneath. Of preference pairs the chosen
answer stands beside the rejected one, after the prompt that they share. No weights are loaded.
"""

from __future__ import annotations

import argparse

from aligner.cli.shared.recipes import (
    add_plugin_arguments,
    add_recipe_argument,
    add_runs_argument,
)

NAME = "preview"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_argument(parser)
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "--step",
        action="append",
        default=[],
        metavar="STEP",
        help="this step alone; may be given again (default: every step that reads rows)",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="N|FILE:LINE",
        help="this row, by its number from 1 or by where it is written; may be given again",
    )
    which.add_argument("--rows", type=_count, metavar="K", help="the first K rows (default: 2)")
    group.add_argument(
        "--held-out", action="store_true", help="rows that are measured on, not those trained on"
    )
    how = parser.add_argument_group("how it is shown")
    how.add_argument("--full", action="store_true", help="leave no token of a long row out")
    how.add_argument("--html", metavar="FILE", help="write a page that can be passed on")
    how.add_argument("--json", action="store_true", help="write JSON, with every token")
    how.add_argument("--width", type=_count, metavar="COLUMNS", help="draw this wide")
    add_runs_argument(how)
    add_plugin_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    # Loads rich, pydantic and the plugins, which --help does without.
    from aligner.cli.shared.previewing import preview_recipe

    return preview_recipe(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
