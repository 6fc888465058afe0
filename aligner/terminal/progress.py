"""Show a running chain: drawn in place on a terminal, or as plain lines, or not at all."""

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
from aligner.terminal.console import Joined, indented, line
from aligner.terminal.progress_state import Followed, Following, Standing, time_left
from aligner.terminal.text import duration, format_metrics, one_line

MARKS: dict[Standing, str] = {
    "waiting": "·",
    "running": "▶",
    "done": "✓",
    "reused": "↺",
    "stopped": "■",
    "failed": "✗",
}
_STYLES: dict[Standing, str] = {
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "reused": "blue",
    "stopped": "yellow",
    "failed": "red",
}
_FINAL_METRICS = 4
"""Metrics on a finished step's line; the closing table has them all."""

LINE_EVERY = 10.0
"""Seconds between two plain lines at the least."""
LINE_SHARE = 0.1
"""Share of a step between two plain lines,"""
LINE_AFTER = 60.0
"""or as many seconds, whichever is sooner."""


class Display(Protocol):
    """What shows a run while it runs."""

    def tell(self, event: Event) -> None: ...

    def warn(self, text: str) -> None: ...


class Silent:
    """Shows nothing, for `--quiet` and for all processes but the first."""

    def tell(self, event: Event) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


class PlainLines:
    """A line for each start and end of a step, and now and then one in between."""

    def __init__(self, console: Console, following: Following) -> None:
        self._console, self._following = console, following
        self._last_time, self._last_share = 0.0, 0.0

    def tell(self, event: Event) -> None:
        one = self._following.hear(event)
        if one is None:
            return
        if isinstance(event, StepProgress):
            if self._due(one):
                self._say(one, _how_far(one, self._following.clock()))
            return
        self._last_time, self._last_share = self._following.clock(), 0.0
        if one.standing == "running":
            self._say(one, [one_line(one.summary) or "started"])
        else:
            self._say(one, _how_it_ended(one))

    def warn(self, text: str) -> None:
        self._write(f"warning: {one_line(text)}")

    def _due(self, one: Followed) -> bool:
        passed = self._following.clock() - self._last_time
        further = round(one.share - self._last_share, 9) >= LINE_SHARE
        if one.done >= one.total or passed < LINE_EVERY or not (further or passed >= LINE_AFTER):
            return False
        self._last_time, self._last_share = self._following.clock(), one.share
        return True

    def _say(self, one: Followed, parts: list[str]) -> None:
        of = len(self._following.steps)
        self._write(f"[{one.number}/{of}] {one.step}: {' · '.join(parts)}")

    def _write(self, text: str) -> None:
        # One event, one line, however long: logs are searched by line.
        self._console.print(line(text), soft_wrap=True)


class LiveLines:
    """Finished steps as lines that stay, and below them the running one, drawn in place."""

    def __init__(self, console: Console, following: Following, live: Live) -> None:
        self._console, self._following, self._live = console, following, live

    def tell(self, event: Event) -> None:
        one = self._following.hear(event)
        if one is None or isinstance(event, StepProgress):
            return
        # First as it now is, so that the line which stays pushes nothing outdated before it.
        self._live.refresh()
        if one.standing != "running":
            self._console.print(_ended_line(one, len(self._following.steps)))

    def warn(self, text: str) -> None:
        self._console.print(line(("warning: ", "yellow"), one_line(text)))


@contextmanager
def shown_live(console: Console, following: Following) -> Iterator[LiveLines]:
    """Draw the chain on `console`, four times a second, until the body ends."""
    live = Live(
        console=console,
        get_renderable=lambda: now_running(following),
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    try:
        yield LiveLines(console, following, live)
    finally:
        with suppress(OSError):  # the terminal may be what has gone
            live.stop()


def now_running(following: Following) -> RenderableType:
    """The running step with its bar and metrics, and what waits behind it."""
    now, one = following.clock(), following.running()
    parts: list[RenderableType] = []
    if one is not None:
        parts.append(_head(one, len(following.steps)))
        below: list[RenderableType] = [_bar(one, now)]
        if shown := one.live_metrics():
            below.append(Joined(shown))
        parts.append(indented(Group(*below), by=2))
    if waiting := following.waiting():
        lead = line((f"{MARKS['waiting']} then ", "dim"))
        parts.append(Joined(waiting, style="dim", lead=lead))
    return Group(*parts)


def _head(one: Followed, of: int) -> Text:
    mark, style = MARKS[one.standing], _STYLES[one.standing]
    head = line((f"{mark} ", style), (f"{one.number}/{of} {one.step}", "bold"))
    if one.summary:
        head.append_text(line((f"  {one_line(one.summary)}", "dim")))
    # A summary may be long, and the area drawn in place must not jump.
    head.no_wrap, head.overflow = True, "ellipsis"
    return head


def _bar(one: Followed, now: float) -> RenderableType:
    times = [duration(now - one.began)]
    if left := time_left(one, now):
        times.append(left)
    said = " · ".join([*([one.position()] if one.position() else []), *times])
    if one.total <= 0:
        return Text(said)
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    bar = ProgressBar(total=one.total, completed=one.done)
    grid.add_row(bar, f"{one.share:.0%}", one.position())
    return Group(grid, Text(" · ".join(times), "dim"))


def _ended_line(one: Followed, of: int) -> RenderableType:
    mark, style = MARKS[one.standing], _STYLES[one.standing]
    head = line((f"{mark} ", style), (f"{one.number}/{of} {one.step}", "bold"), "  ")
    return Joined(_how_it_ended(one), lead=head)


def _how_it_ended(one: Followed) -> list[str]:
    if one.standing in ("failed", "stopped"):
        return [f"{one.standing} after {duration(one.seconds)}"]
    said = f"done in {duration(one.seconds)}" if one.standing == "done" else "reused"
    return [said, *format_metrics(one.metrics, most=_FINAL_METRICS)]


def _how_far(one: Followed, now: float) -> list[str]:
    left = time_left(one, now)
    return [f"{one.share:.0%}", one.position(), *one.live_metrics(), *([left] if left else [])]
