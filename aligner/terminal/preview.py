"""Render a preview in a terminal: the tokens of each row with their roles and counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from aligner.chain import ChainPreview, StepPreview
from aligner.preview import ROLES, PreviewBatch, PreviewRow, PreviewSection, Role, TokenSequence
from aligner.terminal.console import InlineList, indent, styled_line
from aligner.terminal.preview_lines import TokenLines, has_color, span_style
from aligner.terminal.preview_spans import TokenSpan, token_spans
from aligner.terminal.text import format_count, one_line

_MARKS: Mapping[Role, str] = {"trained": "┗━━━", "masked": "╵", "padding": "░░"}
_SIDE_BY_SIDE = 96
"""Width from which the sequences of a row are shown side by side."""


def render_preview(
    preview: ChainPreview, console: Console, *, full: bool = False
) -> RenderableType:
    """Render the output of `aligner preview`.

    Args:
        preview: The rows of each step.
        console: The console that the preview is printed on.
        full: Show all tokens of long rows.
    """
    recipe = preview.chain.recipe
    parts: list[RenderableType] = [
        styled_line((recipe.name, "bold"), (f"  {recipe.where}", "dim")),
        _legend(console),
    ]
    for step in preview.steps:
        parts += ["", _heading(step)]
        for number, section in enumerate(step.sections):
            parts += [*([""] if number else []), *_section(section, full=full)]
        if not step.sections:
            parts.append(indent(styled_line("this step has no rows to preview"), by=2))
    return Group(*parts)


def preview_json(preview: ChainPreview) -> dict[str, Any]:
    """Return the preview with every token as values for JSON."""
    return {
        "recipe": preview.chain.recipe.where,
        "name": preview.chain.recipe.name,
        "steps": [
            {
                "number": step.step.number,
                "step": step.step.name,
                "stage": step.step.stage.name,
                "where": step.step.where,
                "sections": [_section_json(section) for section in step.sections],
            }
            for step in preview.steps
        ],
    }


def _section_json(section: PreviewSection) -> dict[str, Any]:
    values = asdict(section)
    for row_values, row in zip(values["rows"], section.rows, strict=True):
        for sequence_values, sequence in zip(row_values["sequences"], row.sequences, strict=True):
            sequence_values["counts"] = dict(sequence.counts)
    return values


def format_role_counts(counts: Mapping[Role, int], label: str) -> list[str]:
    """Return the number of tokens, and the number for each role.

    >>> format_role_counts({"trained": 5, "masked": 10, "padding": 7}, "trained")
    ['15 tokens', '5 trained', '10 masked', '7 padding']
    """
    tokens = counts["trained"] + counts["masked"]
    parts = [f"{format_count(tokens)} token{'' if tokens == 1 else 's'}"]
    trained = counts["trained"]
    parts.append(f"{format_count(trained)} {label}" if trained else f"none {label}")
    for role in ("masked", "padding"):
        parts += [f"{format_count(counts[role])} {role}"] if counts[role] else []
    return parts


def format_batch(batch: PreviewBatch, label: str) -> str:
    """Return the size of a batch and the share of each role."""
    size = batch.num_sequences * batch.sequence_length
    shares = ", ".join(
        f"{format_count(batch.counts[role])} {label if role == 'trained' else role} "
        f"({batch.counts[role] / size:.0%})"
        for role in ROLES
        if batch.counts[role]
    )
    shape = f"{format_count(batch.num_sequences)} × {format_count(batch.sequence_length)}"
    return f"batch of {batch.title}: {shape} = {format_count(size)} positions: {shares}"


def _legend(console: Console) -> RenderableType:
    line = Text()
    for role in ROLES:
        line.append("   " if line else "")
        if has_color(console):
            line.append(" token ", span_style(TokenSpan("token", role)))
        else:
            line.append(_MARKS[role])
        line.append(f" {role}" + (" (no loss)" if role == "masked" else ""))
    line.append("   · space  ↵ new line  ⇥ tab", "dim")
    return line


def _heading(preview: StepPreview) -> Text:
    step = preview.step
    stage = f"  stage {step.stage.name}" if step.stage.name != step.name else ""
    title = (f"{step.number} {step.name}", "bold")
    return styled_line(title, (f"{stage}  {step.where}", "dim"))


def _section(section: PreviewSection, *, full: bool) -> Iterator[RenderableType]:
    yield indent(styled_line(f"{section.option}: {section.title}"), by=2)
    for row in section.rows:
        yield ""
        yield indent(_Row(row, section, full=full), by=2)
    yield ""
    for batch in section.batches:
        yield indent(styled_line(format_batch(batch, section.trained_label)), by=2)
    for note in section.notes:
        yield indent(styled_line((one_line(note), "dim")), by=2)


class _Row:
    """A row: its sequence, or the shared prompt and then each sequence."""

    def __init__(self, row: PreviewRow, section: PreviewSection, *, full: bool) -> None:
        self._row, self._section, self._full = row, section, full

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row = self._row
        origin = "" if row.origin == row.title else f"  {one_line(row.origin)}"
        gap = "  " * bool(row.details)
        yield InlineList(row.details, lead=styled_line((row.title, "bold"), (origin, "dim"), gap))
        if len(row.sequences) == 1:
            yield from self._sequence(row.sequences[0])
            return
        if row.prompt_length:
            yield styled_line(
                (f"shared prompt: {format_count(row.prompt_length)} tokens", "italic")
            )
            prompt = row.sequences[0].tokens[: row.prompt_length]
            yield TokenLines(
                token_spans(prompt, label=self._section.trained_label, full=self._full)
            )
        blocks = [
            Group(styled_line((sequence.name, "italic")), *self._sequence(sequence))
            for sequence in row.sequences
        ]
        if options.max_width < _SIDE_BY_SIDE:
            yield from blocks
            return
        grid = Table.grid(expand=True, padding=(0, 3, 0, 0), pad_edge=False)
        for _ in blocks:
            grid.add_column(ratio=1)
        grid.add_row(*blocks)
        yield grid

    def _sequence(self, sequence: TokenSequence) -> Iterator[RenderableType]:
        first = self._row.prompt_length
        yield TokenLines(
            token_spans(
                sequence.tokens[first:],
                boundaries=sequence.boundaries,
                first=first,
                label=self._section.trained_label,
                full=self._full,
            )
        )
        yield InlineList(
            [*format_role_counts(sequence.counts, self._section.trained_label), *sequence.notes]
        )
        for warning in sequence.warnings:
            yield styled_line((f"! {one_line(warning)}", "bold yellow"))
