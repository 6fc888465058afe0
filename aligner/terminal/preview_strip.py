"""Draw a sequence of tokens: white space made visible, folded, wrapped, with a mark under each token."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from aligner.preview import PreviewToken, Role
from aligner.terminal.text import clean

_HEAD, _TAIL = 48, 32
"""Tokens of a long stretch that stay at its beginning and at its end."""
_MOST = 420
"""Tokens that stay of a sequence with very many stretches."""
_SPACES = {" ": "·", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}
_TRAINED = ("black on cyan", "black on bright_cyan")
_MASKED = ("", "dim")


@dataclass(frozen=True)
class Piece:
    """Something in a strip: a token, padding that is said once, where a row begins, or what is left out."""

    text: str
    """As it is drawn; a line break stands where the drawn line ends."""
    role: Role
    kind: Literal["token", "padding", "seam", "fold"] = "token"
    special: bool = False
    odd: bool = False
    """Whether it is the second of two neighbours, which are told apart."""
    opens: bool = False
    """Whether a line may end before it without parting a word."""
    tokens: tuple[tuple[int, PreviewToken], ...] = ()
    """What it stands for, with the positions."""


def visible(text: str) -> str:
    r"""`text` with a mark for each space and line end, and control characters written out.

    >>> visible(" a\n\nb\x1b[0m")
    '·a↵↵\nb\\x1b[0m'
    """
    marked = "".join(_SPACES.get(one, one if one == "\n" else _plain(one)) for one in text)
    return re.sub(r"\n+", lambda ends: "↵" * len(ends[0]) + "\n", marked) or "∅"


def _plain(one: str) -> str:
    # Spaces of other widths would pass for the ordinary one.
    return f"\\u{ord(one):04x}" if one.isspace() and ord(one) > 32 else clean(one)


def pieces(
    tokens: Sequence[PreviewToken],
    *,
    boundaries: Mapping[int, str] | None = None,
    first: int = 0,
    word: str = "trained",
    full: bool = False,
) -> list[Piece]:
    """What is drawn of `tokens`.

    Args:
        tokens: Those of a lane, from position `first` on.
        boundaries: Where rows begin, by position in the lane.
        first: The position of the first of them.
        word: What to call those that a loss is put on.
        full: Leave nothing out.
    """
    drawn: list[Piece] = []
    placed = list(enumerate(tokens, start=first))
    for kind, stretch in _stretches(placed, boundaries or {}):
        if stretch[0][0] in (boundaries or {}):
            drawn.append(Piece(f"── {clean((boundaries or {})[stretch[0][0]])}", "masked", "seam"))
        if kind is not None:
            drawn.append(_padding(stretch))
        elif full or len(stretch) <= _HEAD + _TAIL + 8:
            drawn += [_token(one) for one in stretch]
        else:
            drawn += [_token(one) for one in stretch[:_HEAD]]
            drawn.append(_folded(stretch[_HEAD:-_TAIL], word))
            drawn += [_token(one) for one in stretch[-_TAIL:]]
    if not full and len(drawn) > _MOST:
        left_out = [one for piece in drawn[_MOST // 2 : -_MOST // 2] for one in piece.tokens]
        drawn = [*drawn[: _MOST // 2], _folded(left_out, word), *drawn[-_MOST // 2 :]]
    return _told_apart(drawn)


def _stretches(
    placed: Sequence[tuple[int, PreviewToken]], boundaries: Mapping[int, str]
) -> Iterator[tuple[int | None, list[tuple[int, PreviewToken]]]]:
    """Neighbours of one role and one row; of padding also with one id, which is given."""
    begun = 0

    def key(one: tuple[int, PreviewToken]) -> tuple[int, Role, int | None]:
        nonlocal begun
        begun += one[0] in boundaries
        return begun, one[1].role, one[1].id if one[1].role == "padding" else None

    for (_, _, padding), group in groupby(placed, key):
        yield padding, list(group)


def _token(placed: tuple[int, PreviewToken]) -> Piece:
    token = placed[1]
    text = visible(token.text)
    if not cell_len(text.replace("\n", "")):
        text = f"◌{text}"  # an accent that would stand on its neighbour
    opens = token.special or text[0] in "·⇥↵"
    return Piece(text, token.role, special=token.special, opens=opens, tokens=(placed,))


def _padding(stretch: Sequence[tuple[int, PreviewToken]]) -> Piece:
    name = visible(stretch[0][1].text).replace("\n", "")
    times = f" × {len(stretch)}" if len(stretch) > 1 else ""
    return Piece(f"{name}{times}", "padding", "padding", opens=True, tokens=tuple(stretch))


def _folded(stretch: Sequence[tuple[int, PreviewToken]], word: str) -> Piece:
    """Says how many tokens of which role are left out."""
    counts = Counter(token.role for _, token in stretch)
    said = ", ".join(
        f"{number:,} {word if role == 'trained' else role}" for role, number in counts.items()
    )
    only = counts.most_common(1)[0][0]
    return Piece(f"⋯ {said} tokens left out ⋯", only, "fold", opens=True, tokens=tuple(stretch))


def _told_apart(drawn: Sequence[Piece]) -> list[Piece]:
    made, odd = list[Piece](), False
    for number, piece in enumerate(drawn):
        odd = not odd if number and drawn[number - 1].role == piece.role else False
        before = drawn[number - 1] if number else None
        opens = piece.opens or before is None or before.special or before.text.endswith("\n")
        made.append(replace(piece, odd=odd, opens=opens))
    return made


@dataclass(frozen=True)
class _Run:
    """What of a piece stands in one line."""

    text: str
    piece: Piece
    begins: bool


def _lines(drawn: Sequence[Piece], width: int) -> Iterator[list[_Run]]:
    """Lines of at most `width` columns, which end where words do if that is possible."""
    line: list[_Run] = []
    used = 0
    for word in _words(drawn):
        length = sum(cell_len(piece.text.rstrip("\n")) for piece in word)
        alone = word[0].kind in ("seam", "fold")
        if line and (alone or (used + length > width and length <= width)):
            yield line
            line, used = [], 0
        for piece in word:
            for run, ends in _runs(piece, width - used, width):
                if line and (used + cell_len(run.text) > width):
                    yield line
                    line, used = [], 0
                line.append(run)
                used += cell_len(run.text)
                if ends:
                    yield line
                    line, used = [], 0
        if alone and line:
            yield line
            line, used = [], 0
    if line:
        yield line


def _words(drawn: Sequence[Piece]) -> Iterator[list[Piece]]:
    word: list[Piece] = []
    for piece in drawn:
        apart = piece.kind in ("seam", "fold") or (word and word[-1].kind in ("seam", "fold"))
        if word and (piece.opens or apart or word[-1].text.endswith("\n")):
            yield word
            word = []
        word.append(piece)
    if word:
        yield word


def _runs(piece: Piece, left: int, width: int) -> Iterator[tuple[_Run, bool]]:
    """The parts of a piece that go into lines of their own, and whether the line ends after each."""
    begins = True
    parts = piece.text.split("\n")
    for number, part in enumerate(parts):
        ends = number < len(parts) - 1
        whole = cell_len(part) <= width
        cut = [part] if whole else chop_cells(part, max(width, 2))
        for place, one in enumerate(cut):
            if one:
                yield _Run(one, piece, begins), ends and place == len(cut) - 1
                begins = False


class Strip:
    """Pieces as lines of text: in colours, or where there are none with a line of marks under each."""

    def __init__(self, drawn: Sequence[Piece]) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = in_colour(console)
        for line in _lines(self._drawn, options.max_width):
            if coloured:
                yield Text.assemble(*((run.text, style_of(run.piece)) for run in line))
            else:
                yield Text("".join(run.text for run in line))
                marks = "".join(_mark(run) for run in line).rstrip()
                if marks:
                    yield Text(marks)


def in_colour(console: Console) -> bool:
    """Whether roles are told apart by colours; they are by marks where nothing shows colours."""
    return console.color_system is not None and not console.no_color


def style_of(piece: Piece) -> str:
    """How a piece looks: a block where it is trained, plain where it is not, so not by hue alone."""
    if piece.kind == "seam":
        return "bold"
    if piece.kind == "fold" or piece.role == "padding":
        return "dim italic"
    style = (_TRAINED if piece.role == "trained" else _MASKED)[piece.odd]
    return f"bold {style}".strip() if piece.special else style


def _mark(run: _Run) -> str:
    cells = cell_len(run.text)
    if run.piece.kind in ("seam", "fold"):
        return " " * cells
    if run.piece.role == "padding":
        return "░" * cells
    if run.piece.role == "trained":
        return ("┗" if run.begins else "━") + "━" * (cells - 1)
    return ("╵" if run.begins else " ") + " " * (cells - 1)
