"""Show requested rows of a split in the batches that the collator makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.errors import DataError
from aligner.models.padding import pad_left
from aligner.preview import (
    PreviewBatch,
    PreviewRequest,
    PreviewRow,
    PreviewSection,
    TokenSequence,
    count_roles,
)
from aligner.stage import PlanContext
from aligner.train.batch_reader import BatchReader, completion_note

GROUPED = "training makes its batches of rows of like length, so they hold less padding"
"""Note on previews of steps whose sampling strategy is `group_by_length`."""


@dataclass(frozen=True, kw_only=True)
class RowSequences:
    """Sequences of one row, as they are in a batch."""

    sequences: tuple[TokenSequence, ...]
    prompt_length: int = 0
    """Number of first tokens that all sequences share."""
    details: tuple[str, ...] = ()


def preview_section(
    rows: Sequence[Any],
    request: PreviewRequest,
    read: Callable[[Sequence[Any]], Sequence[RowSequences]],
    *,
    context: PlanContext,
    size: int,
    option: str | None = None,
    trained_label: str = "trained",
    purpose: str = "to train on",
    row_word: str = "row",
    joined: bool = False,
    place_of: Callable[[int | str], int | None] | None = None,
    notes: tuple[str, ...] = (),
) -> PreviewSection:
    """Return the requested rows, each as it is in its batch of `size` rows.

    Args:
        rows: A split; each row has an `origin`.
        request: Which of them to show.
        read: Makes a batch of rows, by the collator that trains, and reads each row back.
        context: For the lines of the recipe that errors name.
        size: Rows in a batch.
        option: Option that names the data; by default `data`, or `eval_data` for held-out rows.
        trained_label: Name of the tokens that enter the loss.
        purpose: Use of the rows, unless they are held out.
        row_word: Word for a row: `row`, or `bin` if it contains several.
        joined: A batch is one sequence that contains its rows one after another.
        place_of: Finds a row by the number or origin in a request; by default as rows are numbered.
        notes: Shown with all rows.

    Raises:
        DataError: there is no such row.
    """
    option = option or (
        "eval_data" if request.held_out and "eval_data" in context.option_lines else "data"
    )
    purpose = "held out" if request.held_out else purpose
    title = f"{len(rows)} {row_word}{'' if len(rows) == 1 else 's'} {purpose}"
    places = _places(rows, request, place_of or _by_number_or_origin(rows), title, context, option)
    shown: dict[int, PreviewRow] = {}
    batches: list[PreviewBatch] = []
    for start in dict.fromkeys(place - place % size for place in places):
        part = [rows[place] for place in range(start, min(start + size, len(rows)))]
        found = read(part)
        batches.append(_batch(found, start, row_word, joined=joined))
        for place in places:
            if start <= place < start + size:
                shown[place] = _row(rows[place], place, found[place - start], row_word)
    return PreviewSection(
        option=option,
        title=title,
        rows=tuple(shown[place] for place in places),
        batches=tuple(batches),
        trained_label=trained_label,
        notes=notes,
    )


def prompt_layout(
    reader: BatchReader, stops: Sequence[int], max_new_tokens: int
) -> Callable[[Sequence[Any]], list[RowSequences]]:
    """Return the layout of batches of prompts that a model completes: padded on the left.

    Args:
        reader: Reads the tokens.
        stops: Tokens that end a completion.
        max_new_tokens: Longest completion.
    """
    note = completion_note(reader, stops, max_new_tokens)

    def read(prompts: Sequence[Any]) -> list[RowSequences]:
        tokens_PT, mask_PT = pad_left([prompt.input_ids for prompt in prompts])
        return [
            RowSequences(sequences=(reader.sequence(ids, [0] * len(ids), mask, notes=(note,)),))
            for ids, mask in zip(tokens_PT.tolist(), mask_PT.tolist(), strict=True)
        ]

    return read


def matches_origin(origin: str, name: str) -> bool:
    """True if `name` is the origin of a row, or the end of its path."""
    return origin == name or origin.endswith("/" + name)


def _places(
    rows: Sequence[Any],
    request: PreviewRequest,
    place_of: Callable[[int | str], int | None],
    title: str,
    context: PlanContext,
    option: str,
) -> list[int]:
    """Return the places of the requested rows, counted from 0, each once."""
    places: list[int] = []
    for name in request.rows:
        place = place_of(name)
        if place is not None:
            places.append(place)
        elif request.required:
            what = f"step {context.step!r} has no row {name}: there are {title}"
            raise DataError(what, where=context.at(option), hint=_hint(rows))
    return list(dict.fromkeys(places))


def _hint(rows: Sequence[Any]) -> str:
    if not len(rows):
        return "leave --held-out away, or give eval_data, or a share to hold_out"
    return (
        "rows are numbered from 1, or named by where they are written, FILE:LINE; "
        "`aligner check --verbose` tells which were left out"
    )


def _by_number_or_origin(rows: Sequence[Any]) -> Callable[[int | str], int | None]:
    def find(name: int | str) -> int | None:
        if isinstance(name, int):
            return name - 1 if 1 <= name <= len(rows) else None
        return next((n for n, row in enumerate(rows) if matches_origin(row.origin, name)), None)

    return find


def _row(row: Any, place: int, found: RowSequences, row_word: str) -> PreviewRow:
    return PreviewRow(
        number=place + 1,
        title=f"{row_word} {place + 1}",
        origin=row.origin,
        sequences=found.sequences,
        prompt_length=found.prompt_length,
        details=found.details,
    )


def _batch(
    found: Sequence[RowSequences], start: int, row_word: str, *, joined: bool
) -> PreviewBatch:
    sequences = [sequence for row in found for sequence in row.sequences]
    last = start + len(found)
    to = "and" if len(found) == 2 else "to"
    which = f"{row_word} {last}" if len(found) == 1 else f"{row_word}s {start + 1} {to} {last}"
    widths = [len(sequence.tokens) for sequence in sequences]
    return PreviewBatch(
        title=which,
        num_sequences=1 if joined else len(sequences),
        sequence_length=sum(widths) if joined else max(widths),
        counts=count_roles(sequences),
    )
