"""Show answers while they are written: one after the other, or two side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from aligner.chat.reply import Reply
from aligner.terminal.console import console_on, is_live, line, show
from aligner.terminal.exit_codes import say

BESIDE = 100
"""Columns from which two answers stand side by side."""


class View(Protocol):
    """Where answers and remarks go."""

    def show(self, replies: Sequence[Reply]) -> None:
        """Show answers until they end; Ctrl-C stops the one being written."""

    def note(self, text: str) -> None:
        """Say something that no model said."""


class OneByOne:
    """Answers in turn; with several speakers, each under its step's name."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if len(replies) > 1:
                self._console.print(line((reply.name, "bold"), ":"))
            self._show(reply)
            if reply.note:
                self.note(f"({reply.note})")

    def _show(self, reply: Reply) -> None:
        out = self._console.file
        try:
            for piece in reply:
                out.write(piece)
                out.flush()
        except KeyboardInterrupt:
            reply.stop()
        if not reply.shown.endswith("\n"):
            out.write("\n")
        out.flush()

    def note(self, text: str) -> None:
        say(text, sys.stderr)


class SideBySide(OneByOne):
    """Answers in columns, written a token each in turn."""

    def show(self, replies: Sequence[Reply]) -> None:
        going = list(replies)
        with Live(console=self._console, transient=True, auto_refresh=False) as model_cache:
            try:
                while going:
                    going = [reply for reply in going if next(reply, None) is not None]
                    model_cache.update(_End(_columns(replies)), refresh=True)
            except KeyboardInterrupt:
                for reply in replies:
                    reply.stop()
        show(self._console, _columns(replies))
        for reply in replies:
            if reply.note:
                self.note(f"({reply.name}: {reply.note})")


class _End:
    """As much of the end of a renderable as the terminal is high."""

    def __init__(self, content: Table) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = console.render_lines(self._content, options)[-(console.size.height - 1) :]
        for row in rows:
            yield from row
            yield Segment.line()


def view_for(speakers: int) -> View:
    """Columns for several speakers on a terminal that is wide enough, else one after the other."""
    console = console_on()
    beside = speakers > 1 and is_live(console) and console.width >= BESIDE
    return SideBySide(console) if beside else OneByOne(console)


def _columns(replies: Sequence[Reply]) -> Table:
    grid = Table.grid(padding=(0, 2), expand=True)
    for _ in replies:
        grid.add_column(ratio=1, overflow="fold")
    grid.add_row(*(line((reply.name, "bold")) for reply in replies))
    grid.add_row(*(Text(reply.shown, overflow="fold") for reply in replies))
    return grid
