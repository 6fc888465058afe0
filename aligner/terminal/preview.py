"""What the model will see, in a terminal: every row's tokens with their roles, and the counts beneath."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from aligner.chain import ChainPreview, StepPreview
from aligner.preview import ROLES, PreviewBatch, PreviewRow, PreviewSection, Role, TokenSequence
from aligner.terminal.console import Joined, indented, line
from aligner.terminal.preview_strip import Piece, Strip, in_colour, pieces, style_of
from aligner.terminal.text import count, one_line

_SIGNS: Mapping[Role, str] = {"trained": "┗━━━", "masked": "╵", "padding": "░░"}
_BESIDE = 96
"""Columns from which on two sequences stand beside one another."""


def previewed(shown: ChainPreview, console: Console, *, full: bool = False) -> RenderableType:
    """The whole answer of `aligner preview`.

    Args:
        full: Leave no token out, however long a row is.
    """
    recipe = shown.chain.recipe
    parts: list[RenderableType] = [
        line((recipe.name, "bold"), (f"  {recipe.where}", "dim")),
        _legend(console),
    ]
    for step in shown.steps:
        parts += ["", _head(step)]
        for number, section in enumerate(step.sections):
            parts += [*([""] if number else []), *_section(section, full=full)]
        if not step.sections:
            parts.append(indented(line("it reads no rows that could be shown"), by=2))
    return Group(*parts)


def as_json(shown: ChainPreview) -> dict[str, Any]:
    """The same for programs, with every token."""
    return {
        "recipe": shown.chain.recipe.where,
        "name": shown.chain.recipe.name,
        "steps": [
            {
                "number": step.step.number,
                "step": step.step.name,
                "stage": step.step.stage.name,
                "where": step.step.where,
                "sections": [_section_json(section) for section in step.sections],
            }
            for step in shown.steps
        ],
    }


def _section_json(section: PreviewSection) -> dict[str, Any]:
    made = asdict(section)
    for row, shown in zip(made["rows"], section.rows, strict=True):
        for lane, of in zip(row["sequences"], shown.sequences, strict=True):
            lane["counts"] = dict(of.counts)
    return made


def told(counts: Mapping[Role, int], word: str) -> list[str]:
    """How many tokens there are, and of each role how many.

    >>> told({"trained": 5, "masked": 10, "padding": 7}, "trained")
    ['15 tokens', '5 trained', '10 masked', '7 padding']
    """
    tokens = counts["trained"] + counts["masked"]
    parts = [f"{count(tokens)} token{'' if tokens == 1 else 's'}"]
    parts.append(f"{count(counts['trained'])} {word}" if counts["trained"] else f"none {word}")
    for role in ("masked", "padding"):
        parts += [f"{count(counts[role])} {role}"] if counts[role] else []
    return parts


def batch_line(batch: PreviewBatch, word: str) -> str:
    """What the batch comes to, with the share of each role."""
    places = batch.sequences * batch.columns
    shares = ", ".join(
        f"{count(batch.counts[role])} {word if role == 'trained' else role} "
        f"({batch.counts[role] / places:.0%})"
        for role in ROLES
        if batch.counts[role]
    )
    return (
        f"batch of {batch.title}: {count(batch.sequences)} × {count(batch.columns)} = "
        f"{count(places)} places: {shares}"
    )


def _legend(console: Console) -> RenderableType:
    said = Text()
    for role in ROLES:
        said.append("   " if said else "")
        if in_colour(console):
            said.append(" token ", style_of(Piece("token", role)))
        else:
            said.append(_SIGNS[role])
        said.append(f" {role}" + (": only read" if role == "masked" else ""))
    said.append("   · space  ↵ new line  ⇥ tab", "dim")
    return said


def _head(step: StepPreview) -> Text:
    link = step.step
    stage = f"  stage {link.stage.name}" if link.stage.name != link.name else ""
    return line((f"{link.number} {link.name}", "bold"), (f"{stage}  {link.where}", "dim"))


def _section(section: PreviewSection, *, full: bool) -> Iterator[RenderableType]:
    yield indented(line(f"{section.option}: {section.title}"), by=2)
    for row in section.rows:
        yield ""
        yield indented(_Row(row, section, full=full), by=2)
    yield ""
    for batch in section.batches:
        yield indented(line(batch_line(batch, section.word)), by=2)
    for note in section.notes:
        yield indented(line((one_line(note), "dim")), by=2)


class _Row:
    """A row: its sequence, or what its sequences share and then each by itself."""

    def __init__(self, row: PreviewRow, section: PreviewSection, *, full: bool) -> None:
        self._row, self._section, self._full = row, section, full

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row = self._row
        origin = "" if row.origin == row.title else f"  {one_line(row.origin)}"
        yield Joined(
            row.facts, lead=line((row.title, "bold"), (origin, "dim"), "  " * bool(row.facts))
        )
        if len(row.sequences) == 1:
            yield from self._lane(row.sequences[0])
            return
        if row.shared:
            yield line((f"prompt, the same in all: {count(row.shared)} tokens", "italic"))
            shared = row.sequences[0].tokens[: row.shared]
            yield Strip(pieces(shared, word=self._section.word, full=self._full))
        drawn = [Group(line((lane.name, "italic")), *self._lane(lane)) for lane in row.sequences]
        if options.max_width < _BESIDE:
            yield from drawn
            return
        beside = Table.grid(expand=True, padding=(0, 3, 0, 0), pad_edge=False)
        for _ in drawn:
            beside.add_column(ratio=1)
        beside.add_row(*drawn)
        yield beside

    def _lane(self, lane: TokenSequence) -> Iterator[RenderableType]:
        begin = self._row.shared
        yield Strip(
            pieces(
                lane.tokens[begin:],
                boundaries=lane.boundaries,
                first=begin,
                word=self._section.word,
                full=self._full,
            )
        )
        yield Joined([*told(lane.counts, self._section.word), *lane.notes])
        for warning in lane.warnings:
            yield line((f"! {one_line(warning)}", "bold yellow"))
