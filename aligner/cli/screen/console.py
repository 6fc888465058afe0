"""Consoles on the terminal, or on a file, that show text exactly as given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import IO

from rich.box import Box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from aligner.cli.screen.text import safe

NARROW = 60
"""Columns below which a table becomes a list."""
_RULE = Box("    \n    \n ── \n    \n    \n    \n    \n    \n", ascii=False)
_WIDEST = 120
"""Lines longer than this are hard to follow with the eye."""


def console_on(file: IO[str] | None = None) -> Console:
    """A console on `file`, or on what is standard output now.

    Colours follow NO_COLOR and TERM; the width follows the terminal or COLUMNS. Brackets, numbers
    and `:names:` in a text mean nothing special.
    """
    console = Console(
        file=file or sys.stdout, markup=False, emoji=False, highlight=False, legacy_windows=False
    )
    console.width = min(console.width, _WIDEST)
    return console


def is_live(console: Console) -> bool:
    """Whether lines can be drawn again in place: a terminal, and not a dumb one."""
    return console.file.isatty() and not console.is_dumb_terminal


def line(*parts: tuple[str, str] | str) -> Text:
    """A line of parts, each a text or a text and its style."""
    made = Text(overflow="fold")
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        made.append(safe(text), style)
    return made


def joined(parts: Iterable[str], *, style: str = "", between: str = " · ") -> Text:
    """Parts in a row; where a line must end it ends between two parts, if they fit at all."""
    # A no-break space inside each part leaves the spaces around the dot as the only places to break.
    text = between.join(safe(part).replace(" ", "\u00a0") for part in parts)
    return Text(text, style, overflow="fold")


def indented(content: RenderableType, *, by: int) -> RenderableType:
    """`content` with `by` empty columns before every line."""
    grid = Table.grid(padding=0)
    grid.add_column(width=by)
    grid.add_column(overflow="fold", ratio=1)
    grid.add_row("", content)
    return grid


def labelled(rows: Sequence[tuple[str, RenderableType]], *, by: int = 0) -> RenderableType:
    """Labels in one column and what they label, wrapped, in the next."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    if by:
        grid.add_column(width=by - 1)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    for label, content in rows:
        shown = Text(safe(content), overflow="fold") if isinstance(content, str) else content
        grid.add_row(*([""] if by else []), label, shown)
    return grid


def table(columns: Sequence[tuple[str, str]]) -> Table:
    """An empty table with a rule under its heads. Each column is a head and `left` or `right`."""
    made = Table(box=_RULE, pad_edge=False, show_edge=False, header_style="bold")
    for head, side in columns:
        right = side == "right"
        made.add_column(
            head, justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return made
