"""Show past runs, and remove what no run needs once the user has agreed."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from aligner.errors import ChainError, did_you_mean
from aligner.run.folder import all_runs
from aligner.run.lock import LOCK, is_held
from aligner.terminal.console import console_on, show
from aligner.terminal.history import (
    Leftover,
    PastRun,
    data_octets,
    leftovers,
    lock_of,
    old_data,
    past_runs,
)
from aligner.terminal.listing import print_json
from aligner.terminal.runs_table import run_page, runs_table, to_remove
from aligner.terminal.text import size


def list_runs(arguments: argparse.Namespace) -> int:
    found = past_runs(arguments.runs)
    if arguments.json:
        print_json([_as_json(one) for one in found])
    else:
        console = console_on()
        show(console, runs_table(found, str(arguments.runs), console))
        if octets := data_octets(arguments.runs):
            print(f"prepared data, for all runs: {size(octets)}")
    return 0


def show_run(arguments: argparse.Namespace) -> int:
    found = {one.name: one for one in past_runs(arguments.runs)}
    if arguments.name not in found:
        raise ChainError(
            f"no run is called {arguments.name!r}",
            where=str(arguments.runs),
            hint=did_you_mean(arguments.name, found),
        )
    if arguments.json:
        print_json(_as_json(found[arguments.name]))
    else:
        console = console_on()
        show(console, run_page(found[arguments.name], console))
    return 0


def prune(arguments: argparse.Namespace) -> int:
    """Remove what no run leads to, once the user has agreed; 0 also where there is nothing."""
    for folder in all_runs(arguments.runs):
        if is_held(folder.path / LOCK):
            raise ChainError(
                f"run {folder.name!r} is running, and may need what looks unused",
                where=str(arguments.runs),
                hint="prune when it has ended",
            )
    found = [*leftovers(arguments.runs), *old_data(arguments.runs, time.time())]
    console = console_on()
    if not found:
        print("nothing to remove: every step belongs to a run")
        return 0
    show(console, to_remove(found))
    if not arguments.yes and not _agreed(f"Remove {_total(found)}? [y/N] "):
        print("nothing was removed")
        return 0
    for one in found:
        shutil.rmtree(one.folder)
        shutil.rmtree(lock_of(one.folder), ignore_errors=True)
    print(f"removed {_total(found)}")
    return 0


def _total(found: Sequence[Leftover]) -> str:
    folders = "1 folder" if len(found) == 1 else f"{len(found)} folders"
    return f"{folders}, {size(sum(one.octets for one in found))}"


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ChainError("cannot ask: standard input is no terminal", hint="add --yes to go ahead")
    return input(question).strip().lower() in ("y", "yes")


def _as_json(one: PastRun) -> dict[str, Any]:
    return {
        "name": one.name,
        "folder": one.folder,
        "status": one.status,
        "begun": one.begun,
        "last": one.last,
        "steps_of_recipe": one.asked,
        "bytes": one.octets,
        "steps": [
            {
                "number": step.number,
                "step": step.step,
                "stage": step.stage,
                "metrics": step.metrics,
                "seconds": step.seconds,
                "bytes": step.octets,
                "shared": step.shared,
                "folder": step.folder,
            }
            for step in one.steps
        ],
    }
