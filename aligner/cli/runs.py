"""List the runs, or show one with its steps and metrics; or free the disk of what no run uses.

Runs in one folder share their finished steps. `--prune` removes steps that no run has any longer,
because its recipe changed or its folder was deleted, and prepared data that nothing has used for a
month: it shows them, and asks first.
"""

from __future__ import annotations

import argparse

from aligner.cli.shared.recipes import add_runs_argument
from aligner.terminal.listing import add_json_argument

NAME = "runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="RUN", help="a run, to be shown in full")
    add_runs_argument(parser)
    add_json_argument(parser)
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove steps that no run has, and prepared data unused for a month",
    )
    parser.add_argument("--yes", action="store_true", help="with --prune: do not ask")


def run(arguments: argparse.Namespace) -> int:
    # Loads rich and pydantic, which --help does without.
    from aligner.cli.shared.looking_back import list_runs, prune, show_run

    if arguments.prune:
        return prune(arguments)
    return list_runs(arguments) if arguments.name is None else show_run(arguments)
