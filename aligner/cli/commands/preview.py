"""Show the tokens that each step trains on.

Rows pass through the collator that training uses; no weights are loaded. Every token is marked as
trained, masked or padding, with counts. The chosen and the rejected answer of a preference pair are
shown side by side.
"""

from __future__ import annotations

import argparse

from aligner.cli.arguments import (
    add_json_argument,
    add_plugin_arguments,
    add_recipe_argument,
    add_runs_argument,
    positive_int,
)
from aligner.cli.completers import set_completer, step_names

NAME = "preview"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_argument(parser)
    rows = parser.add_argument_group("rows to show")
    step = rows.add_argument(
        "--step",
        action="append",
        default=[],
        metavar="STEP",
        help="Show only this step. Repeat it for several (default: every step that reads rows).",
    )
    set_completer(step, step_names)
    selection = rows.add_mutually_exclusive_group()
    selection.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="N|FILE:LINE",
        help="Show this row, by its number from 1 or by file and line. Repeat it for several.",
    )
    selection.add_argument(
        "--rows", type=positive_int, metavar="K", help="Show the first K rows (default: 2)."
    )
    rows.add_argument(
        "--held-out", action="store_true", help="Show validation rows instead of training rows."
    )
    output = parser.add_argument_group("output")
    output.add_argument("--full", action="store_true", help="Show all tokens of long rows.")
    output.add_argument("--html", metavar="FILE", help="Write a self-contained HTML page.")
    add_json_argument(output)
    output.add_argument(
        "--width", type=positive_int, metavar="COLUMNS", help="Width of the output in columns."
    )
    add_runs_argument(output)
    add_plugin_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    # Loads rich, pydantic and the plugins, which --help does without.
    from aligner.cli.actions.preview import preview_recipe

    return preview_recipe(arguments)
