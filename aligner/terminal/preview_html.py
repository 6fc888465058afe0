"""Render a preview as a self-contained HTML page without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from aligner.chain import ChainPreview, StepPreview
from aligner.preview import ROLES, PreviewRow, PreviewSection, Role, TokenSequence
from aligner.terminal.preview import format_batch, format_role_counts
from aligner.terminal.preview_spans import TokenSpan, token_spans
from aligner.terminal.text import escape_controls, hide_secrets

_STYLE = Path(__file__).with_name("preview_html.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LONG = 160
"""Length of a group of one role from which its middle is folded."""
_UNFOLDED = 60
"""Tokens shown before and after a folded middle."""
_MARKS = "·⇥↵␍⍽∅◌"


def preview_html(preview: ChainPreview) -> str:
    """Return the page. All text of the rows is escaped, and the page forbids scripts."""
    recipe = preview.chain.recipe
    body = [
        f"<header><h1>{_text(recipe.name)}</h1>",
        f"<p class=soft>Training rows, token by token · <code>{_text(recipe.where)}</code></p>",
        f"<nav>{''.join(map(_link, preview.steps))}</nav></header><main>",
        _legend(),
        *(part for step in preview.steps for part in _step(step)),
        *(_warning(str(error)) for error in preview.errors),
        "</main><footer>Hold the pointer over a token for its id, role and position. "
        "Created by <code>aligner preview</code>.</footer>",
    ]
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{_text(recipe.name)}: preview</title>"
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style></head><body>\n"
    )
    return hide_secrets(head + "\n".join(body) + "\n</body></html>\n")


def _text(text: str) -> str:
    return escape(escape_controls(text), quote=True)


def _link(step: StepPreview) -> str:
    return f'<a href="#step-{step.step.number}">{step.step.number} {_text(step.step.name)}</a>'


def _legend() -> str:
    meanings = {
        "trained": "has a loss",
        "masked": "context without a loss",
        "padding": "fills up the batch and is ignored",
    }
    samples = "".join(
        f'<span><span class="tokens"><span class="t {role}">{role}</span></span> {meanings[role]}</span>'
        for role in ROLES
    )
    marks = "<span class=soft>· space &nbsp; ↵ new line &nbsp; ⇥ tab</span>"
    return f'<div class="legend">{samples}{marks}</div>'


def _step(preview: StepPreview) -> Iterator[str]:
    step = preview.step
    yield f'<section id="step-{step.number}"><h2>{step.number} {_text(step.name)} '
    yield f"<small>stage {_text(step.stage.name)} · <code>{_text(step.where)}</code></small></h2>"
    if not preview.sections:
        yield "<p>This step has no rows to preview.</p>"
    for section in preview.sections:
        yield f"<p><code>{_text(section.option)}</code>: {_text(section.title)}</p>"
        for row in section.rows:
            yield from _row(row, section)
        for batch in section.batches:
            yield f"<p class=count>{_text(format_batch(batch, section.trained_label))}</p>"
            yield _bar(batch.counts, section.trained_label)
        for note in section.notes:
            yield f"<p class=soft>{_text(note)}</p>"
    yield "</section>"


def _row(row: PreviewRow, section: PreviewSection) -> Iterator[str]:
    details = "".join(f" · {_text(detail)}" for detail in row.details)
    yield f"<article><h3>{_text(row.title)} <small><code>{_text(row.origin)}</code>{details}</small></h3>"
    if row.prompt_length:
        yield f"<h4>shared prompt: {row.prompt_length:,} tokens</h4>"
        prompt = row.sequences[0].tokens[: row.prompt_length]
        yield _tokens(token_spans(prompt, full=True), section.trained_label)
    yield '<div class="columns">'
    for sequence in row.sequences:
        yield "<div>" + (f"<h4>{_text(sequence.name)}</h4>" if sequence.name else "")
        spans = token_spans(
            sequence.tokens[row.prompt_length :],
            boundaries=sequence.boundaries,
            first=row.prompt_length,
            full=True,
        )
        yield _tokens(spans, section.trained_label)
        yield from _counts(sequence, section.trained_label)
        yield "</div>"
    yield "</div></article>"


def _counts(sequence: TokenSequence, label: str) -> Iterator[str]:
    yield _bar(sequence.counts, label)
    parts = [*format_role_counts(sequence.counts, label), *sequence.notes]
    yield f"<p class=count>{' · '.join(map(_text, parts))}</p>"
    yield from map(_warning, sequence.warnings)


def _warning(text: str) -> str:
    return f'<p class="warning">⚠ {_text(text)}</p>'


def _bar(counts: Mapping[Role, int], label: str) -> str:
    total = sum(counts.values()) or 1
    label = ", ".join(format_role_counts(counts, label))
    parts = "".join(
        f'<span class="{role}" style="width:{counts[role] / total:.2%}"></span>' for role in ROLES
    )
    return f'<div class="bar" role="img" aria-label="{_text(label)}">{parts}</div>'


def _tokens(spans: Sequence[TokenSpan], label: str) -> str:
    parts: list[str] = []
    for role, group in groupby(spans, lambda span: "" if span.kind == "boundary" else span.role):
        elements = [_span(span, label) for span in group]
        if role and len(elements) > _LONG:
            folded = len(elements) - 2 * _UNFOLDED
            name = label if role == "trained" else role
            summary = f"<summary>⋯ {folded:,} more {_text(name)} tokens</summary>"
            middle = f"<details>{summary}{''.join(elements[_UNFOLDED:-_UNFOLDED])}</details>"
            elements = [*elements[:_UNFOLDED], middle, *elements[-_UNFOLDED:]]
        parts += elements
    return f'<div class="tokens">{"".join(parts)}</div>'


def _span(span: TokenSpan, label: str) -> str:
    if span.kind == "boundary":
        return f'<span class="boundary">{_text(span.text.removeprefix("── "))}</span>'
    classes = [
        "t",
        span.role,
        *(["alternate"] if span.alternate else []),
        *(["special"] if span.special else []),
    ]
    (position, token), *_ = span.tokens
    last = span.tokens[-1][0]
    positions = f"position {position}" if last == position else f"positions {position} to {last}"
    role = label if span.role == "trained" else span.role
    title = _text(f"id {token.id} · {token.text!r} · {role} · {positions}")
    return f'<span class="{" ".join(classes)}" title="{title}">{_marked(span.text)}</span>'


def _marked(text: str) -> str:
    """Return drawn text with faint marks, and with line breaks."""
    html = "".join(
        "<br>" if c == "\n" else f"<i>{c}</i>" if c in _MARKS else escape(c, quote=True)
        for c in text
    )
    # A line may end before the mark of a space, as it would at a space.
    return html.replace("<i>·</i>", "<wbr><i>·</i>")
