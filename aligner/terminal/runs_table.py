"""Render a list of runs, one run, or the folders that no run uses."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from aligner.terminal.console import (
    NARROW,
    InlineList,
    LabeledRows,
    indent,
    make_table,
    styled_line,
)
from aligner.terminal.history import RunRecord, UnusedFolder
from aligner.terminal.summary import display_path, step_table
from aligner.terminal.text import format_duration, format_size


def render_runs(runs: Sequence[RunRecord], folder: str, console: Console) -> RenderableType:
    """Render one line per run."""
    if not runs:
        return styled_line(f"no runs in {folder}")
    if console.width < NARROW:
        blocks: list[RenderableType] = []
        for run in runs:
            blocks.append(styled_line((run.name, "bold")))
            parts = [run.status, _steps(run), format_size(run.num_bytes), _time(run.updated)]
            blocks.append(indent(InlineList(parts), by=2))
        return Group(*blocks)
    table = make_table(
        [("run", "left"), ("status", "left"), ("steps", "right"), ("size", "right"),
         ("updated", "left")]
    )  # fmt: skip
    for run in runs:
        size, updated = format_size(run.num_bytes), _time(run.updated)
        table.add_row(styled_line(run.name), styled_line(run.status), _steps(run), size, updated)
    return table


def render_run(run: RunRecord, console: Console) -> RenderableType:
    """Render one run with all metrics of its steps."""
    rows = [
        (str(step.number), step.step, format_duration(step.seconds), step.metrics)
        for step in run.steps
    ]
    facts: list[tuple[str, RenderableType]] = [
        ("status", styled_line(run.status)),
        ("started", _time(run.started)),
        ("updated", _time(run.updated)),
        ("steps", _steps(run)),
        ("folder", display_path(run.folder)),
        ("size", _size(run)),
    ]
    parts: list[RenderableType] = [styled_line((run.name, "bold")), LabeledRows(facts)]
    if rows:
        parts += ["", step_table(rows, console, max_metrics=None)]
    return Group(*parts)


def render_unused(folders: Sequence[UnusedFolder]) -> RenderableType:
    """Render the folders that no run uses."""
    table = make_table([("unused", "left"), ("size", "right"), ("folder", "left")])
    for folder in folders:
        path = styled_line(display_path(folder.path))
        table.add_row(styled_line(folder.description), format_size(folder.num_bytes), path)
    return table


def _steps(run: RunRecord) -> str:
    return f"{len(run.steps)}/{run.total_steps}"


def _time(timestamp: str) -> str:
    """Format `2025-01-31T12:00:00Z` as `2025-01-31 12:00`."""
    return f"{timestamp[:10]} {timestamp[11:16]}" if len(timestamp) >= 16 else "unknown"


def _size(run: RunRecord) -> RenderableType:
    shared = sum(step.num_bytes for step in run.steps if step.shared)
    if not shared:
        return Text(format_size(run.num_bytes))
    return InlineList(
        [format_size(run.num_bytes), f"{format_size(shared)} of it shared with other runs"]
    )
