"""Consoles on the terminal, or on a file, that show text exactly as given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import IO

from rich.box import Box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aligner.terminal.text import safe

NARROW = 60
"""Columns below which a table becomes a list."""
_RULE = Box("    \n    \n ── \n    \n    \n    \n    \n    \n", ascii=False)
_WIDEST = 120
"""Lines longer than this are hard to follow with the eye."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller decide: rich would end the process, and the training in it."""
        raise  # the BrokenPipeError that is being handled


def console_on(file: IO[str] | None = None) -> Console:
    """A console on `file`, or on what is standard output now.

    Colours follow NO_COLOR and TERM; the width follows the terminal or COLUMNS. Brackets, numbers
    and `:names:` in a text mean nothing special.
    """
    console = _Console(
        file=file or sys.stdout, markup=False, emoji=False, highlight=False, legacy_windows=False
    )
    console.width = min(console.width, _WIDEST)
    return console


def is_live(console: Console) -> bool:
    """Whether lines can be drawn again in place: a terminal, and not a dumb one."""
    return console.file.isatty() and not console.is_dumb_terminal


def show(console: Console, *content: RenderableType) -> None:
    """Print each of `content`, without the blanks that fill tables up to the right."""
    with console.capture() as drawn:
        for one in content:
            console.print(one)
    text = "".join(f"{row.rstrip()}\n" for row in drawn.get().splitlines())
    console.file.write(text)
    console.file.flush()


def line(*parts: tuple[str, str] | str) -> Text:
    """A line of parts, each a text or a text and its style."""
    made = Text(overflow="fold")
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        made.append(safe(text), style)
    return made


class Joined:
    """Parts in a row, ` · ` between them; a line ends between two parts wherever they fit."""

    def __init__(self, parts: Iterable[str], *, style: str = "", lead: Text | None = None) -> None:
        """`lead` stands before the parts, without a dot after it."""
        self._parts = [Text(safe(part), style, overflow="fold") for part in parts]
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


def indented(content: RenderableType, *, by: int) -> RenderableType:
    """`content` with `by` empty columns before every line."""
    return Padding(content, (0, 0, 0, by))


class Labelled:
    """Labels in one column and what they label, wrapped, in the next.

    A word too long for its column, a path say, stands whole below its label if it fits there.
    """

    def __init__(self, rows: Sequence[tuple[str, RenderableType]], *, by: int = 0) -> None:
        """`by` columns before the labels are left empty."""
        self._rows, self._by = rows, by

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widest = max((len(label) for label, _ in self._rows), default=0)
        room = options.max_width - self._by - widest - 1
        for label, content in self._rows:
            grid = Table.grid(padding=0)
            grid.add_column(width=widest + 1, style="dim")
            grid.add_column(overflow="fold", ratio=1)
            below = isinstance(content, str) and max(map(len, content.split() or [""])) > room
            shown = Text(safe(content), overflow="fold") if isinstance(content, str) else content
            grid.add_row(label, "" if below else shown)
            yield indented(grid, by=self._by)
            if below:
                yield indented(shown, by=self._by + 2)


def table(columns: Sequence[tuple[str, str]]) -> Table:
    """An empty table with a rule under its heads. Each column is a head and `left` or `right`."""
    made = Table(box=_RULE, pad_edge=False, show_edge=False, header_style="bold")
    for head, side in columns:
        right = side == "right"
        made.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return made
