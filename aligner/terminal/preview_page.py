"""What the model will see, as one page of HTML that needs nothing else and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from aligner.chain import ChainPreview, StepPreview
from aligner.preview import ROLES, PreviewRow, PreviewSection, Role, TokenSequence
from aligner.terminal.preview import batch_line, told
from aligner.terminal.preview_strip import Piece, pieces
from aligner.terminal.text import clean, without_secrets

_STYLE = Path(__file__).with_name("preview_page.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LONG = 160
"""Tokens of one role from which on the middle of them is shown only when it is asked for."""
_KEPT = 60
"""Tokens that are shown in any case before and after such a middle."""
_MARKS = "·⇥↵␍⍽∅◌"


def page(shown: ChainPreview) -> str:
    """The whole page. Nothing in the rows can steer it: all text is escaped, and no script may run."""
    recipe = shown.chain.recipe
    body = [
        f"<header><h1>{_text(recipe.name)}</h1>",
        f"<p class=soft>What the model will see, token by token · <code>{_text(recipe.where)}</code></p>",
        f"<nav>{''.join(map(_link, shown.steps))}</nav></header><main>",
        _legend(),
        *(part for step in shown.steps for part in _step(step)),
        *(_warning(str(error)) for error in shown.errors),
        "</main><footer>Hold the pointer over a token for its id, its role and its position. "
        "Made by <code>aligner preview</code>.</footer>",
    ]
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{_text(recipe.name)}: what the model will see</title>"
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style></head><body>\n"
    )
    return without_secrets(head + "\n".join(body) + "\n</body></html>\n")


def _text(text: str) -> str:
    return escape(clean(text), quote=True)


def _link(step: StepPreview) -> str:
    return f'<a href="#step-{step.step.number}">{step.step.number} {_text(step.step.name)}</a>'


def _legend() -> str:
    meanings = {
        "trained": "a loss is put on it",
        "masked": "only read",
        "padding": "fills rows up, not even read",
    }
    samples = "".join(
        f'<span><span class="tokens"><span class="t {role}">{role}</span></span> {meanings[role]}</span>'
        for role in ROLES
    )
    marks = "<span class=soft>· space &nbsp; ↵ new line &nbsp; ⇥ tab</span>"
    return f'<div class="legend">{samples}{marks}</div>'


def _step(step: StepPreview) -> Iterator[str]:
    link = step.step
    yield f'<section id="step-{link.number}"><h2>{link.number} {_text(link.name)} '
    yield f"<small>stage {_text(link.stage.name)} · <code>{_text(link.where)}</code></small></h2>"
    if not step.sections:
        yield "<p>It reads no rows that could be shown.</p>"
    for section in step.sections:
        yield f"<p><code>{_text(section.option)}</code>: {_text(section.title)}</p>"
        for row in section.rows:
            yield from _row(row, section)
        for batch in section.batches:
            yield f"<p class=count>{_text(batch_line(batch, section.word))}</p>"
            yield _bar(batch.counts, section.word)
        for note in section.notes:
            yield f"<p class=soft>{_text(note)}</p>"
    yield "</section>"


def _row(row: PreviewRow, section: PreviewSection) -> Iterator[str]:
    facts = "".join(f" · {_text(fact)}" for fact in row.facts)
    yield f"<article><h3>{_text(row.title)} <small><code>{_text(row.origin)}</code>{facts}</small></h3>"
    first = row.sequences[0]
    if row.shared:
        yield f"<h4>prompt, the same in all: {row.shared:,} tokens</h4>"
        yield _tokens(pieces(first.tokens[: row.shared], full=True), section.word)
    yield '<div class="beside">'
    for lane in row.sequences:
        yield "<div>" + (f"<h4>{_text(lane.name)}</h4>" if lane.name else "")
        begin = row.shared
        drawn = pieces(lane.tokens[begin:], boundaries=lane.boundaries, first=begin, full=True)
        yield _tokens(drawn, section.word)
        yield from _beneath(lane, section.word)
        yield "</div>"
    yield "</div></article>"


def _beneath(lane: TokenSequence, word: str) -> Iterator[str]:
    yield _bar(lane.counts, word)
    said = " · ".join(map(_text, [*told(lane.counts, word), *lane.notes]))
    yield f"<p class=count>{said}</p>"
    yield from map(_warning, lane.warnings)


def _warning(text: str) -> str:
    return f'<p class="warning">⚠ {_text(text)}</p>'


def _bar(counts: Mapping[Role, int], word: str) -> str:
    total = sum(counts.values()) or 1
    said = ", ".join(told(counts, word))
    spans = "".join(
        f'<span class="{role}" style="width:{counts[role] / total:.2%}"></span>' for role in ROLES
    )
    return f'<div class="bar" role="img" aria-label="{_text(said)}">{spans}</div>'


def _tokens(drawn: Sequence[Piece], word: str) -> str:
    parts: list[str] = []
    for role, group in groupby(drawn, lambda piece: "" if piece.kind == "seam" else piece.role):
        stretch = list(group)
        spans = [_span(piece, word) for piece in stretch]
        if role and len(spans) > _LONG:
            inside = len(spans) - 2 * _KEPT
            name = word if role == "trained" else role
            summary = f"<summary>⋯ {inside:,} more {_text(name)} tokens</summary>"
            middle = f"<details>{summary}{''.join(spans[_KEPT:-_KEPT])}</details>"
            spans = [*spans[:_KEPT], middle, *spans[-_KEPT:]]
        parts += spans
    return f'<div class="tokens">{"".join(parts)}</div>'


def _span(piece: Piece, word: str) -> str:
    if piece.kind == "seam":
        return f'<span class="seam">{_text(piece.text.removeprefix("── "))}</span>'
    classes = [
        "t",
        piece.role,
        *(["odd"] if piece.odd else []),
        *(["special"] if piece.special else []),
    ]
    (position, token), *_ = piece.tokens
    last = piece.tokens[-1][0]
    places = f"position {position}" if last == position else f"positions {position} to {last}"
    role = word if piece.role == "trained" else piece.role
    about = _text(f"id {token.id} · {token.text!r} · {role} · {places}")
    return f'<span class="{" ".join(classes)}" title="{about}">{_marked(piece.text)}</span>'


def _marked(text: str) -> str:
    """Drawn text with its marks set back, and a line break where it has one."""
    made = [
        "<br>" if one == "\n" else f"<i>{one}</i>" if one in _MARKS else escape(one, quote=True)
        for one in text
    ]
    # A line may end after a mark for a space, as it would after a space.
    return "".join(made).replace("<i>·</i>", "<wbr><i>·</i>")
