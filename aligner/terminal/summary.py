"""The table a run ends with: each step's time and metrics, and where everything is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType

from aligner.chain import Outcome
from aligner.chain.execute import StepResult
from aligner.terminal.console import NARROW, Joined, Labelled, indented, line, table
from aligner.terminal.text import duration, format_metrics

MOST_FIGURES = 8
"""Metrics shown for a step, unless all are asked for."""


def closing(
    outcome: Outcome, console: Console, *, log: Path | None, every_figure: bool
) -> RenderableType:
    """What to print at the end of `outcome`.

    Args:
        log: Where the libraries' messages are, if there were any.
        every_figure: Show all metrics of each step, not just the first few.
    """
    most = None if every_figure else MOST_FIGURES
    rows = [
        (str(number), one.step, "reused" if one.reused else duration(one.seconds), one.metrics)
        for number, one in enumerate(outcome.steps, start=1)
    ]
    places: list[tuple[str, RenderableType]] = [("run", near(outcome.folder))]
    for slot in sorted(outcome.state.filled()):
        path = outcome.state.get(slot).path
        places.append((slot, through_run(path, outcome.steps)))
    if log is not None:
        places.append(("log", near(log)))
    places.append(("time", duration(outcome.seconds)))
    return Group("", step_table(rows, console, most=most), "", Labelled(places))


def step_table(
    rows: Sequence[tuple[str, str, str, Mapping[str, float]]], console: Console, *, most: int | None
) -> RenderableType:
    """Steps as (number, name, time, metrics): a table, or a list where the terminal is narrow."""
    if console.width < NARROW:
        blocks: list[RenderableType] = []
        for number, step, took, values in rows:
            blocks.append(line((f"{number} {step}", "bold"), (f"  {took}", "dim")))
            if shown := format_metrics(values, most=most):
                blocks.append(indented(Joined(shown), by=2))
        return Group(*blocks)
    made = table([("", "right"), ("step", "left"), ("time", "right"), ("metrics", "left")])
    for number, step, took, values in rows:
        made.add_row(number, line(step), took, Joined(format_metrics(values, most=most)))
    return made


def near(path: Path | str) -> str:
    """`path` as seen from the current folder, where that is shorter."""
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute)
    return relative if len(relative) < len(absolute) else absolute


def through_run(path: str, steps: Sequence[StepResult]) -> str:
    """`path` by way of the run's own folder, where it lies in one of its steps."""
    if not os.path.isabs(path):
        return path
    for one in steps:
        real = one.folder.resolve()
        if Path(path).is_relative_to(real):
            return near(one.folder / Path(path).relative_to(real))
    return near(path)
