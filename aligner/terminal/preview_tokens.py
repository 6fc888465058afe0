"""Draw token sequences: visible white space, shortened, wrapped, with a mark below each token."""

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
from aligner.terminal.text import escape_controls

_HEAD, _TAIL = 48, 32
"""Tokens shown at the beginning and at the end of a long group of one role."""
_MAX_SPANS = 420
"""Spans shown of a sequence with very many groups."""
_SPACES = {" ": "·", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}
_TRAINED = ("black on cyan", "black on bright_cyan")
_MASKED = ("", "dim")

PositionedToken = tuple[int, PreviewToken]
"""A token with its position in the sequence."""


@dataclass(frozen=True)
class TokenSpan:
    """A unit of the drawing: a token, a group of padding, a row boundary, or omitted tokens."""

    text: str
    """The drawn text; a newline ends the drawn line."""
    role: Role
    kind: Literal["token", "padding", "boundary", "omitted"] = "token"
    special: bool = False
    alternate: bool = False
    """True for every second of adjacent tokens, which get a different shade."""
    may_break: bool = False
    """True if a line may end before the span without splitting a word."""
    tokens: tuple[PositionedToken, ...] = ()
    """The tokens that it stands for."""


def visible(text: str) -> str:
    r"""Return `text` with a mark for each space and newline, and control characters escaped.

    >>> visible(" a\n\nb\x1b[0m")
    '·a↵↵\nb\\x1b[0m'
    """
    marked = "".join(_SPACES.get(c, c if c == "\n" else _escape(c)) for c in text)
    return re.sub(r"\n+", lambda ends: "↵" * len(ends[0]) + "\n", marked) or "∅"


def _escape(char: str) -> str:
    # Spaces of other widths would look like the ordinary one.
    return f"\\u{ord(char):04x}" if char.isspace() and ord(char) > 32 else escape_controls(char)


def token_spans(
    tokens: Sequence[PreviewToken],
    *,
    boundaries: Mapping[int, str] | None = None,
    first: int = 0,
    label: str = "trained",
    full: bool = False,
) -> list[TokenSpan]:
    """Return the spans to draw for `tokens`.

    Args:
        tokens: Tokens of a sequence, from position `first`.
        boundaries: Title of each row that begins in the sequence, by position.
        first: Position of the first token.
        label: Name of the role `trained`.
        full: Omit no tokens.
    """
    boundaries = boundaries or {}
    spans: list[TokenSpan] = []
    positioned = list(enumerate(tokens, start=first))
    for padding_id, group in _groups(positioned, boundaries):
        if group[0][0] in boundaries:
            title = escape_controls(boundaries[group[0][0]])
            spans.append(TokenSpan(f"── {title}", "masked", "boundary"))
        if padding_id is not None:
            spans.append(_padding_span(group))
        elif full or len(group) <= _HEAD + _TAIL + 8:
            spans += map(_token_span, group)
        else:
            spans += map(_token_span, group[:_HEAD])
            spans.append(_omitted_span(group[_HEAD:-_TAIL], label))
            spans += map(_token_span, group[-_TAIL:])
    if not full and len(spans) > _MAX_SPANS:
        half = _MAX_SPANS // 2
        omitted = [token for span in spans[half:-half] for token in span.tokens]
        spans = [*spans[:half], _omitted_span(omitted, label), *spans[-half:]]
    return _with_neighbors(spans)


def _groups(
    positioned: Sequence[PositionedToken], boundaries: Mapping[int, str]
) -> Iterator[tuple[int | None, list[PositionedToken]]]:
    """Group adjacent tokens of one row and role; padding also by id, which is returned."""
    row = 0

    def key(item: PositionedToken) -> tuple[int, Role, int | None]:
        nonlocal row
        position, token = item
        row += position in boundaries
        return row, token.role, token.id if token.role == "padding" else None

    for (_, _, padding_id), group in groupby(positioned, key):
        yield padding_id, list(group)


def _token_span(positioned: PositionedToken) -> TokenSpan:
    token = positioned[1]
    text = visible(token.text)
    if not cell_len(text.replace("\n", "")):
        text = f"◌{text}"  # an accent that would merge with the previous token
    may_break = token.special or text[0] in "·⇥↵"
    return TokenSpan(
        text, token.role, special=token.special, may_break=may_break, tokens=(positioned,)
    )


def _padding_span(group: Sequence[PositionedToken]) -> TokenSpan:
    name = visible(group[0][1].text).replace("\n", "")
    times = f" × {len(group)}" if len(group) > 1 else ""
    return TokenSpan(f"{name}{times}", "padding", "padding", may_break=True, tokens=tuple(group))


def _omitted_span(tokens: Sequence[PositionedToken], label: str) -> TokenSpan:
    """Return a span with the number of omitted tokens per role."""
    counts = Counter(token.role for _, token in tokens)
    listed = ", ".join(
        f"{number:,} {label if role == 'trained' else role}" for role, number in counts.items()
    )
    role = counts.most_common(1)[0][0]
    text = f"⋯ {listed} tokens omitted ⋯"
    return TokenSpan(text, role, "omitted", may_break=True, tokens=tuple(tokens))


def _with_neighbors(spans: Sequence[TokenSpan]) -> list[TokenSpan]:
    """Set the fields that depend on the span before."""
    result, alternate = list[TokenSpan](), False
    for number, span in enumerate(spans):
        before = spans[number - 1] if number else None
        alternate = not alternate if before is not None and before.role == span.role else False
        may_break = span.may_break or before is None or before.special or before.text.endswith("\n")
        result.append(replace(span, alternate=alternate, may_break=may_break))
    return result


@dataclass(frozen=True)
class _LinePart:
    """The part of a span on one line."""

    text: str
    span: TokenSpan
    first: bool


def _lines(spans: Sequence[TokenSpan], width: int) -> Iterator[list[_LinePart]]:
    """Wrap spans into lines of at most `width` columns, between words if possible."""
    line: list[_LinePart] = []
    used = 0
    for word in _words(spans):
        length = sum(cell_len(span.text.rstrip("\n")) for span in word)
        own_line = word[0].kind in ("boundary", "omitted")
        if line and (own_line or (used + length > width and length <= width)):
            yield line
            line, used = [], 0
        for span in word:
            for part, ends in _line_parts(span, width):
                if line and (used + cell_len(part.text) > width):
                    yield line
                    line, used = [], 0
                line.append(part)
                used += cell_len(part.text)
                if ends:
                    yield line
                    line, used = [], 0
        if own_line and line:
            yield line
            line, used = [], 0
    if line:
        yield line


def _words(spans: Sequence[TokenSpan]) -> Iterator[list[TokenSpan]]:
    own_line = ("boundary", "omitted")
    word: list[TokenSpan] = []
    for span in spans:
        separate = span.kind in own_line or (word and word[-1].kind in own_line)
        if word and (span.may_break or separate or word[-1].text.endswith("\n")):
            yield word
            word = []
        word.append(span)
    if word:
        yield word


def _line_parts(span: TokenSpan, width: int) -> Iterator[tuple[_LinePart, bool]]:
    """Return the parts of a span on different lines, and True for each that ends its line."""
    first = True
    texts = span.text.split("\n")
    for number, text in enumerate(texts):
        ends = number < len(texts) - 1
        chunks = [text] if cell_len(text) <= width else chop_cells(text, max(width, 2))
        for index, chunk in enumerate(chunks):
            if chunk:
                yield _LinePart(chunk, span, first), ends and index == len(chunks) - 1
                first = False


class TokenLines:
    """Spans as lines of text: in colors, or with a line of marks below each without colors."""

    def __init__(self, spans: Sequence[TokenSpan]) -> None:
        self._spans = spans

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        color = has_color(console)
        for line in _lines(self._spans, options.max_width):
            if color:
                yield Text.assemble(*((part.text, span_style(part.span)) for part in line))
            else:
                yield Text("".join(part.text for part in line))
                marks = "".join(map(_mark, line)).rstrip()
                if marks:
                    yield Text(marks)


def has_color(console: Console) -> bool:
    """True if roles are shown by colors; otherwise they are shown by marks."""
    return console.color_system is not None and not console.no_color


def span_style(span: TokenSpan) -> str:
    """Return the style of a span: a block if it is trained, so roles differ not only by hue."""
    if span.kind == "boundary":
        return "bold"
    if span.kind == "omitted" or span.role == "padding":
        return "dim italic"
    style = (_TRAINED if span.role == "trained" else _MASKED)[span.alternate]
    return f"bold {style}".strip() if span.special else style


def _mark(part: _LinePart) -> str:
    cells = cell_len(part.text)
    if part.span.kind in ("boundary", "omitted"):
        return " " * cells
    if part.span.role == "padding":
        return "░" * cells
    if part.span.role == "trained":
        return ("┗" if part.first else "━") + "━" * (cells - 1)
    return ("╵" if part.first else " ") + " " * (cells - 1)
