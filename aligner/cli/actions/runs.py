"""List runs, show one run, and remove files that no run uses."""

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
from aligner.terminal.console import make_console, print_to
from aligner.terminal.history import (
    RunRecord,
    UnusedFolder,
    data_size,
    read_runs,
    step_lock,
    unused_data,
    unused_steps,
)
from aligner.terminal.json_output import print_json
from aligner.terminal.runs_table import render_run, render_runs, render_unused
from aligner.terminal.text import format_size


def list_runs(arguments: argparse.Namespace) -> int:
    runs = read_runs(arguments.runs)
    if arguments.json:
        print_json([_run_json(run) for run in runs])
    else:
        console = make_console()
        print_to(console, render_runs(runs, str(arguments.runs), console))
        if num_bytes := data_size(arguments.runs):
            print(f"prepared data of all runs: {format_size(num_bytes)}")
    return 0


def show_run(arguments: argparse.Namespace) -> int:
    runs = {run.name: run for run in read_runs(arguments.runs)}
    if arguments.name not in runs:
        raise ChainError(
            f"there is no run {arguments.name!r}",
            where=str(arguments.runs),
            hint=did_you_mean(arguments.name, runs),
        )
    if arguments.json:
        print_json(_run_json(runs[arguments.name]))
    else:
        console = make_console()
        print_to(console, render_run(runs[arguments.name], console))
    return 0


def prune(arguments: argparse.Namespace) -> int:
    """Remove unused folders after the user has confirmed; return 0, also without any."""
    for run in all_runs(arguments.runs):
        if is_held(run.path / LOCK):
            raise ChainError(
                f"run {run.name!r} is running and may use steps that look unused",
                where=str(arguments.runs),
                hint="prune when it has ended",
            )
    unused = [*unused_steps(arguments.runs), *unused_data(arguments.runs, time.time())]
    console = make_console()
    if not unused:
        print("nothing to remove: every step belongs to a run")
        return 0
    print_to(console, render_unused(unused))
    if not arguments.yes and not _confirm(f"Remove {_total(unused)}? [y/N] "):
        print("nothing was removed")
        return 0
    for folder in unused:
        shutil.rmtree(folder.path)
        shutil.rmtree(step_lock(folder.path), ignore_errors=True)
    print(f"removed {_total(unused)}")
    return 0


def _total(folders: Sequence[UnusedFolder]) -> str:
    count = "1 folder" if len(folders) == 1 else f"{len(folders)} folders"
    return f"{count}, {format_size(sum(folder.num_bytes for folder in folders))}"


def _confirm(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ChainError(
            "cannot ask for confirmation: standard input is not a terminal",
            hint="add --yes to remove without asking",
        )
    return input(question).strip().lower() in ("y", "yes")


def _run_json(run: RunRecord) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": run.folder,
        "status": run.status,
        "started": run.started,
        "updated": run.updated,
        "total_steps": run.total_steps,
        "bytes": run.num_bytes,
        "steps": [
            {
                "number": step.number,
                "step": step.step,
                "stage": step.stage,
                "metrics": step.metrics,
                "seconds": step.seconds,
                "bytes": step.num_bytes,
                "shared": step.shared,
                "folder": step.folder,
            }
            for step in run.steps
        ],
    }
