"""Draw spans of tokens as lines of a terminal, in colors or with a mark below each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from aligner.terminal.preview_spans import TokenSpan

_TRAINED = ("black on cyan", "black on bright_cyan")
_MASKED = ("", "dim")


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
