"""Render the table at the end of a run: time and metrics of each step, and output paths."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType

from aligner.chain import Outcome
from aligner.chain.execute import StepResult
from aligner.terminal.console import (
    NARROW,
    InlineList,
    LabeledRows,
    indent,
    make_table,
    styled_line,
)
from aligner.terminal.text import format_duration, format_metrics

MAX_METRICS = 8
"""Metrics shown per step, unless all are requested."""


def render_summary(
    outcome: Outcome, console: Console, *, log: Path | None, all_metrics: bool
) -> RenderableType:
    """Render the result of a run.

    Args:
        outcome: The result.
        console: The console that the result is printed on.
        log: Log file with the output of libraries, if there was any.
        all_metrics: Show all metrics of each step, not only the first ones.
    """
    rows = [
        (
            str(number),
            step.step,
            "reused" if step.reused else format_duration(step.seconds),
            step.metrics,
        )
        for number, step in enumerate(outcome.steps, start=1)
    ]
    paths: list[tuple[str, RenderableType]] = [("run", display_path(outcome.folder))]
    for slot in sorted(outcome.state.filled()):
        paths.append((slot, path_in_run(outcome.state.get(slot).path, outcome.steps)))
    if log is not None:
        paths.append(("log", display_path(log)))
    paths.append(("time", format_duration(outcome.seconds)))
    steps = step_table(rows, console, max_metrics=None if all_metrics else MAX_METRICS)
    return Group("", steps, "", LabeledRows(paths))


def step_table(
    rows: Sequence[tuple[str, str, str, Mapping[str, float]]],
    console: Console,
    *,
    max_metrics: int | None,
) -> RenderableType:
    """Render steps (number, name, time, metrics) as a table, or as a list on a narrow terminal."""
    if console.width < NARROW:
        blocks: list[RenderableType] = []
        for number, step, time, metrics in rows:
            blocks.append(styled_line((f"{number} {step}", "bold"), (f"  {time}", "dim")))
            if parts := format_metrics(metrics, most=max_metrics):
                blocks.append(indent(InlineList(parts), by=2))
        return Group(*blocks)
    table = make_table([("", "right"), ("step", "left"), ("time", "right"), ("metrics", "left")])
    for number, step, time, metrics in rows:
        parts = format_metrics(metrics, most=max_metrics)
        table.add_row(number, styled_line(step), time, InlineList(parts))
    return table


def display_path(path: Path | str) -> str:
    """Return `path` relative to the current folder if that is shorter, else absolute."""
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute)
    return relative if len(relative) < len(absolute) else absolute


def path_in_run(path: str, steps: Sequence[StepResult]) -> str:
    """Return `path` through the run's own folder if it is in one of the run's steps."""
    if not os.path.isabs(path):
        return path
    for step in steps:
        folder = step.folder.resolve()
        if Path(path).is_relative_to(folder):
            return display_path(step.folder / Path(path).relative_to(folder))
    return display_path(path)
