"""Consoles, tables and layouts that print text without markup."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from rich.box import Box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aligner.terminal.text import sanitize

NARROW = 60
"""Width below which a table becomes a list."""
_RULE = Box("    \n    \n ── \n    \n    \n    \n    \n    \n", ascii=False)
_MAX_WIDTH = 120
"""Longer lines are hard to read."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error: rich would end the process, and the training with it."""
        raise  # the BrokenPipeError that is being handled


def make_console(file: IO[str] | None = None) -> Console:
    """Return a console on `file`, or on the current standard output.

    Colors follow NO_COLOR and TERM, the width the terminal or COLUMNS. Text is not interpreted as
    markup.
    """
    console = _Console(
        file=file or sys.stdout, markup=False, emoji=False, highlight=False, legacy_windows=False
    )
    console.width = min(console.width, _MAX_WIDTH)
    return console


def is_live(console: Console) -> bool:
    """True if lines can be redrawn in place: on a terminal that is not `dumb`."""
    return console.file.isatty() and not console.is_dumb_terminal


def print_to(console: Console, *content: RenderableType) -> None:
    """Print `content` without trailing spaces."""
    with console.capture() as capture:
        for item in content:
            console.print(item)
    text = "".join(f"{row.rstrip()}\n" for row in capture.get().splitlines())
    console.file.write(text)
    console.file.flush()


def render_text(render: Callable[[Console], RenderableType], *, width: int = 100) -> str:
    """Return what `render` builds as plain text of a fixed width."""
    file = io.StringIO()
    console = make_console(file)
    console.width = width
    print_to(console, render(console))
    return file.getvalue().strip("\n")


def styled_line(*parts: tuple[str, str] | str) -> Text:
    """Return a line of texts, or of pairs of text and style."""
    line = Text(overflow="fold")
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(sanitize(text), style)
    return line


class InlineList:
    """A list on one line with ` · ` between its items; long lists wrap between items."""

    def __init__(self, parts: Iterable[str], *, style: str = "", lead: Text | None = None) -> None:
        """`lead` is printed before the items, without a dot after it."""
        self._parts = [Text(sanitize(part), style, overflow="fold") for part in parts]
        self._lead = lead if lead is not None else Text()
        self._dot = Text(" · ", style)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row, fresh = self._lead.copy(), True
        for number, part in enumerate(self._parts, start=1):
            gap = Text() if fresh else self._dot
            # Room for the dot that shows, at the end of a line, that the row goes on.
            after = 2 if number < len(self._parts) else 0
            if (
                row.cell_len + gap.cell_len + part.cell_len + after > options.max_width
                and row.plain
            ):
                yield Text.assemble(row, gap[:2])
                row, gap = Text(), Text()
            row, fresh = Text.assemble(row, gap, part, overflow="fold"), False
        yield row

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widths = [part.cell_len + 2 for part in self._parts] or [0]
        whole = self._lead.cell_len + sum(widths) + len(widths) - 3
        longest = max(*widths, self._lead.cell_len)
        return Measurement(
            min(longest, options.max_width), min(max(whole, longest), options.max_width)
        )


def indent(content: RenderableType, *, by: int) -> RenderableType:
    """Indent `content` by a number of columns."""
    return Padding(content, (0, 0, 0, by))


class LabeledRows:
    """Two columns: labels and their contents.

    A word that is too long for its column, such as a path, is printed below its label.
    """

    def __init__(self, rows: Sequence[tuple[str, RenderableType]], *, by: int = 0) -> None:
        """Indent all rows by `by` columns."""
        self._rows, self._by = rows, by

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label_width = max((len(label) for label, _ in self._rows), default=0)
        room = options.max_width - self._by - label_width - 1
        for label, content in self._rows:
            grid = Table.grid(padding=0)
            grid.add_column(width=label_width + 1, style="dim")
            grid.add_column(overflow="fold", ratio=1)
            below = isinstance(content, str) and max(map(len, content.split() or [""])) > room
            value = (
                Text(sanitize(content), overflow="fold") if isinstance(content, str) else content
            )
            grid.add_row(label, "" if below else value)
            yield indent(grid, by=self._by)
            if below:
                yield indent(value, by=self._by + 2)


def make_table(columns: Sequence[tuple[str, str]]) -> Table:
    """Return an empty table. Each column is a heading and its alignment, `left` or `right`."""
    table = Table(box=_RULE, pad_edge=False, show_edge=False, header_style="bold")
    for heading, alignment in columns:
        right = alignment == "right"
        table.add_column(
            heading, justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return table
