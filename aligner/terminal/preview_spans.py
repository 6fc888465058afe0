"""Split token sequences into spans to draw: visible white space, grouped padding, shortened groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from rich.cells import cell_len

from aligner.preview import PreviewToken, Role
from aligner.terminal.text import escape_controls

_HEAD, _TAIL = 48, 32
"""Tokens shown at the beginning and at the end of a long group of one role."""
_MAX_SPANS = 420
"""Spans shown of a sequence with very many groups."""
_SPACES = {" ": "·", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}

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
    """The tokens of the span."""


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
