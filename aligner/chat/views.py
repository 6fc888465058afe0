"""Show answers while they are generated, in sequence or side by side."""

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
from aligner.terminal.console import is_live, make_console, print_to, styled_line
from aligner.terminal.exit_codes import print_message

SIDE_BY_SIDE_COLUMNS = 100
"""Width of the terminal from which two answers are shown side by side."""


class ChatView(Protocol):
    """Output of a chat."""

    def show(self, replies: Sequence[Reply]) -> None:
        """Show answers until they end; Ctrl-C stops the current one."""

    def note(self, text: str) -> None:
        """Show a message that no model generated."""


class SequentialView:
    """Shows one answer after the other; with several models, each below its step's name."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if len(replies) > 1:
                self._console.print(styled_line((reply.name, "bold"), ":"))
            self._show(reply)
            if reply.note:
                self.note(f"({reply.note})")

    def _show(self, reply: Reply) -> None:
        out = self._console.file
        try:
            for text in reply:
                out.write(text)
                out.flush()
        except KeyboardInterrupt:
            reply.stop()
        if not reply.shown.endswith("\n"):
            out.write("\n")
        out.flush()

    def note(self, text: str) -> None:
        print_message(text, sys.stderr)


class SideBySideView(SequentialView):
    """Shows answers in columns, one token of each in turn."""

    def show(self, replies: Sequence[Reply]) -> None:
        running = list(replies)
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            try:
                while running:
                    running = [reply for reply in running if next(reply, None) is not None]
                    live.update(_LastRows(_columns(replies)), refresh=True)
            except KeyboardInterrupt:
                for reply in replies:
                    reply.stop()
        print_to(self._console, _columns(replies))
        for reply in replies:
            if reply.note:
                self.note(f"({reply.name}: {reply.note})")


class _LastRows:
    """The last rows of a renderable, as many as the terminal has."""

    def __init__(self, content: Table) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = console.render_lines(self._content, options)[-(console.size.height - 1) :]
        for row in rows:
            yield from row
            yield Segment.line()


def make_view(num_models: int) -> ChatView:
    """Return a view with columns for several models on a wide terminal, else a sequential view."""
    console = make_console()
    wide = num_models > 1 and is_live(console) and console.width >= SIDE_BY_SIDE_COLUMNS
    return SideBySideView(console) if wide else SequentialView(console)


def _columns(replies: Sequence[Reply]) -> Table:
    grid = Table.grid(padding=(0, 2), expand=True)
    for _ in replies:
        grid.add_column(ratio=1, overflow="fold")
    grid.add_row(*(styled_line((reply.name, "bold")) for reply in replies))
    grid.add_row(*(Text(reply.shown, overflow="fold") for reply in replies))
    return grid
