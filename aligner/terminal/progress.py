"""Show the progress of a run: in place on a terminal, as plain lines, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aligner.chain import Event, StepProgress
from aligner.terminal.console import InlineList, indent, styled_line
from aligner.terminal.progress_state import ProgressTracker, StepStatus, TrackedStep, time_left
from aligner.terminal.text import format_duration, format_metrics, one_line

MARKS: dict[StepStatus, str] = {
    "waiting": "·",
    "running": "▶",
    "done": "✓",
    "reused": "↺",
    "stopped": "■",
    "failed": "✗",
}
_STYLES: dict[StepStatus, str] = {
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "reused": "blue",
    "stopped": "yellow",
    "failed": "red",
}
_FINAL_METRICS = 4
"""Metrics on a finished step's line; the table at the end has all of them."""

LINE_EVERY = 10.0
"""Shortest time between two plain lines, in seconds."""
LINE_SHARE = 0.1
"""Progress between two plain lines, as a share of the step."""
LINE_AFTER = 60.0
"""Seconds after which a plain line is printed with less progress."""


class Display(Protocol):
    """Output of a run while it runs."""

    def on_event(self, event: Event) -> None: ...

    def warn(self, text: str) -> None: ...


class NoDisplay:
    """Shows nothing, for `--quiet` and for all processes but the first."""

    def on_event(self, event: Event) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


class LineDisplay:
    """Prints a line at the start and the end of each step, and at intervals in between."""

    def __init__(self, console: Console, tracker: ProgressTracker) -> None:
        self._console, self._tracker = console, tracker
        self._last_time, self._last_share = 0.0, 0.0

    def on_event(self, event: Event) -> None:
        step = self._tracker.update(event)
        if step is None:
            return
        if isinstance(event, StepProgress):
            if self._is_due(step):
                self._print_step(step, _progress_parts(step, self._tracker.clock()))
            return
        self._last_time, self._last_share = self._tracker.clock(), 0.0
        if step.status == "running":
            self._print_step(step, [one_line(step.summary) or "started"])
        else:
            self._print_step(step, _end_parts(step))

    def warn(self, text: str) -> None:
        self._print(f"warning: {one_line(text)}")

    def _is_due(self, step: TrackedStep) -> bool:
        seconds = self._tracker.clock() - self._last_time
        advanced = round(step.share - self._last_share, 9) >= LINE_SHARE
        late = seconds >= LINE_AFTER
        if step.done >= step.total or seconds < LINE_EVERY or not (advanced or late):
            return False
        self._last_time, self._last_share = self._tracker.clock(), step.share
        return True

    def _print_step(self, step: TrackedStep, parts: list[str]) -> None:
        total = len(self._tracker.steps)
        self._print(f"[{step.number}/{total}] {step.step}: {' · '.join(parts)}")

    def _print(self, text: str) -> None:
        # One event, one line, however long: logs are searched by line.
        self._console.print(styled_line(text), soft_wrap=True)


class LiveDisplay:
    """Prints finished steps as lines, and redraws the running step below them."""

    def __init__(self, console: Console, tracker: ProgressTracker, live: Live) -> None:
        self._console, self._tracker, self._live = console, tracker, live

    def on_event(self, event: Event) -> None:
        step = self._tracker.update(event)
        if step is None or isinstance(event, StepProgress):
            return
        # Redraw before printing, so that the printed line is not followed by an outdated state.
        self._live.refresh()
        if step.status != "running":
            self._console.print(_end_line(step, len(self._tracker.steps)))

    def warn(self, text: str) -> None:
        self._console.print(styled_line(("warning: ", "yellow"), one_line(text)))


@contextmanager
def live_display(console: Console, tracker: ProgressTracker) -> Iterator[LiveDisplay]:
    """Redraw the progress on `console` four times a second until the body ends."""
    live = Live(
        console=console,
        get_renderable=lambda: render_progress(tracker),
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    try:
        yield LiveDisplay(console, tracker, live)
    finally:
        with suppress(OSError):  # the terminal may be gone
            live.stop()


def render_progress(tracker: ProgressTracker) -> RenderableType:
    """Render the running step with its progress bar and metrics, and the names of later steps."""
    now, step = tracker.clock(), tracker.running()
    parts: list[RenderableType] = []
    if step is not None:
        parts.append(_heading(step, len(tracker.steps)))
        rows: list[RenderableType] = [_bar(step, now)]
        if metrics := step.live_metrics():
            rows.append(InlineList(metrics))
        parts.append(indent(Group(*rows), by=2))
    if waiting := tracker.waiting():
        lead = styled_line((f"{MARKS['waiting']} then ", "dim"))
        parts.append(InlineList(waiting, style="dim", lead=lead))
    return Group(*parts)


def _heading(step: TrackedStep, total: int) -> Text:
    mark, style = MARKS[step.status], _STYLES[step.status]
    line = styled_line((f"{mark} ", style), (f"{step.number}/{total} {step.step}", "bold"))
    if step.summary:
        line.append_text(styled_line((f"  {one_line(step.summary)}", "dim")))
    # A summary may be long, and the area drawn in place must not jump.
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _bar(step: TrackedStep, now: float) -> RenderableType:
    times = [format_duration(now - step.started)]
    if left := time_left(step, now):
        times.append(left)
    if step.total <= 0:
        return Text(" · ".join([*([step.position()] if step.position() else []), *times]))
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    bar = ProgressBar(total=step.total, completed=step.done)
    grid.add_row(bar, f"{step.share:.0%}", step.position())
    return Group(grid, Text(" · ".join(times), "dim"))


def _end_line(step: TrackedStep, total: int) -> RenderableType:
    mark, style = MARKS[step.status], _STYLES[step.status]
    lead = styled_line((f"{mark} ", style), (f"{step.number}/{total} {step.step}", "bold"), "  ")
    return InlineList(_end_parts(step), lead=lead)


def _end_parts(step: TrackedStep) -> list[str]:
    if step.status in ("failed", "stopped"):
        return [f"{step.status} after {format_duration(step.seconds)}"]
    result = f"done in {format_duration(step.seconds)}" if step.status == "done" else "reused"
    return [result, *format_metrics(step.metrics, most=_FINAL_METRICS)]


def _progress_parts(step: TrackedStep, now: float) -> list[str]:
    left = time_left(step, now)
    return [
        f"{step.share:.0%}",
        step.position(),
        *step.live_metrics(),
        *([left] if left else []),
    ]
