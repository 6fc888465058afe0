"""List runs, show one, or remove files that no run uses.

Runs in one folder share their finished steps. `--prune` removes steps that no run uses any longer,
because a recipe changed or a run was deleted, and prepared data unused for a month. It lists them and
asks first.
"""

from __future__ import annotations

import argparse

from aligner.cli.arguments import add_json_argument, add_runs_argument
from aligner.cli.completers import run_names, set_completer

NAME = "runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument(
        "name", nargs="?", metavar="RUN", help="Show this run with all its metrics."
    )
    set_completer(run, run_names)
    add_runs_argument(parser)
    add_json_argument(parser)
    parser.add_argument(
        "--prune",
        action="store_true",
        help="Remove steps that no run uses, and prepared data unused for a month.",
    )
    parser.add_argument(
        "--yes", action="store_true", help="Do not ask before --prune removes files."
    )


def run(arguments: argparse.Namespace) -> int:
    # Loads rich and pydantic, which --help does without.
    from aligner.cli.actions.runs import list_runs, prune, show_run

    if arguments.prune:
        return prune(arguments)
    return list_runs(arguments) if arguments.name is None else show_run(arguments)
