"""How past runs are listed, and one of them shown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from aligner.terminal.console import NARROW, Joined, Labelled, indented, line, table
from aligner.terminal.history import Leftover, PastRun
from aligner.terminal.summary import near, step_table
from aligner.terminal.text import duration, size


def runs_table(runs: Sequence[PastRun], where: str, console: Console) -> RenderableType:
    """A line for each run."""
    if not runs:
        return line(f"no runs in {where}")
    if console.width < NARROW:
        blocks: list[RenderableType] = []
        for one in runs:
            blocks.append(line((one.name, "bold")))
            parts = [one.status, _steps(one), size(one.octets), _when(one.last)]
            blocks.append(indented(Joined(parts), by=2))
        return Group(*blocks)
    sides = {"run": "left", "status": "left", "steps": "right", "size": "right", "last": "left"}
    made = table(list(sides.items()))
    for one in runs:
        row = (line(one.name), line(one.status), _steps(one), size(one.octets), _when(one.last))
        made.add_row(*row)
    return made


def run_page(run: PastRun, console: Console) -> RenderableType:
    """One run with every metric of its steps."""
    rows = [
        (str(step.number), step.step, duration(step.seconds), step.metrics) for step in run.steps
    ]
    facts: list[tuple[str, RenderableType]] = [
        ("status", line(run.status)),
        ("begun", _when(run.begun)),
        ("last", _when(run.last)),
        ("steps", _steps(run)),
        ("folder", near(run.folder)),
        ("size", _sizes(run)),
    ]
    parts: list[RenderableType] = [line((run.name, "bold")), Labelled(facts)]
    if rows:
        parts += ["", step_table(rows, console, most=None)]
    return Group(*parts)


def to_remove(found: Sequence[Leftover]) -> RenderableType:
    """What no run has."""
    made = table([("no run has", "left"), ("size", "right"), ("folder", "left")])
    for one in found:
        made.add_row(line(one.what), size(one.octets), line(near(one.folder)))
    return made


def _steps(run: PastRun) -> str:
    return f"{len(run.steps)}/{run.asked}"


def _when(at: str) -> str:
    """`2025-01-31T12:00:00Z` for people."""
    return f"{at[:10]} {at[11:16]}" if len(at) >= 16 else "unknown"


def _sizes(run: PastRun) -> RenderableType:
    shared = sum(step.octets for step in run.steps if step.shared)
    if not shared:
        return Text(size(run.octets))
    return Joined([size(run.octets), f"{size(shared)} of it shared with other runs"])
