"""Preview rows of a language model: one by one, packed in bins, or split from a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from aligner.preview import PreviewRequest, PreviewSection
from aligner.stage import PlanContext
from aligner.train.batch_reader import BatchReader, after_first
from aligner.train.collating import language_collator
from aligner.train.packing import IGNORED, LanguageRow, LanguageRows, PackedRows, StreamedRows
from aligner.train.preview import RowSequences, matches_origin, preview_section


@dataclass(frozen=True)
class TracedRow:
    """A row for the collator, with the origin of each of its parts."""

    row: LanguageRow
    origin: str
    boundaries: Mapping[int, str] = field(default_factory=dict)
    """Origin of each part of a row that has several, by the position at which the part begins."""


class TracedRows(Sequence[TracedRow]):
    """Rows with the origins of their parts, each built when it is read, as there may be very many."""

    def __init__(self, rows: LanguageRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(self._rows, PackedRows):
            return _bin(self._rows, place)
        if isinstance(self._rows, StreamedRows):
            return _piece(self._rows, place)
        return TracedRow(self._rows[place], self._rows.rows[place].origin)

    def find(self, name: int | str) -> int | None:
        """Return the place of a row by its number, from 1, or its origin: the bin that contains it, or
        the row of the stream in which it begins."""
        rows = self._rows
        if isinstance(name, int) and not isinstance(rows, PackedRows):
            return name - 1 if 1 <= name <= len(self) else None
        number = name - 1 if isinstance(name, int) else _number(rows, name)
        if isinstance(rows, PackedRows):
            return next((place for place, bin in enumerate(rows.bins) if number in bin), None)
        if isinstance(rows, StreamedRows) and number is not None:
            return int(rows.starts[number]) // rows.length
        return number


def _number(rows: LanguageRows, origin: str) -> int | None:
    found = (number for number, row in enumerate(rows.rows) if matches_origin(row.origin, origin))
    return next(found, None)


def _bin(rows: PackedRows, place: int) -> TracedRow:
    row, numbers = rows[place], [int(number) for number in rows.bins[place]]
    starts = numpy.cumsum([0, *row["seq_lengths"][:-1]]).tolist()
    boundaries = {
        start: f"row {number + 1}  {rows.rows[number].origin}"
        for start, number in zip(starts, numbers, strict=True)
    }
    return TracedRow(row, _listed([number + 1 for number in numbers]), boundaries)


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 6} more" if len(numbers) > 6 else ""
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:6]))}{more}"


def _piece(rows: StreamedRows, place: int) -> TracedRow:
    begin, boundaries = place * rows.length, {}
    for number in rows.documents(place):
        position, origin = int(rows.starts[number]) - begin, rows.rows[number].origin
        boundaries[max(position, 0)] = origin if position >= 0 else f"going on  {origin}"
    first = rows.documents(place)[0]
    return TracedRow(rows[place], rows.rows[first].origin, boundaries)


def language_section(
    rows: LanguageRows,
    request: PreviewRequest,
    reader: BatchReader,
    tokenizer: Any,
    *,
    context: PlanContext,
    size: int,
    joined: bool = False,
    notes: tuple[str, ...] = (),
) -> PreviewSection:
    """Show rows of a split as the collator of language models lays them out.

    Args:
        rows: Those of the split; bins are requested by the rows in them.
        request: Which of them to show.
        reader: Reads the batch back.
        tokenizer: The step's.
        context: For the lines of the recipe that errors name.
        size: Rows in a batch.
        joined: The collator joins a batch to one sequence without padding.
        notes: Shown with all rows.

    Raises:
        DataError: there is no such row.
    """
    collate, traced = language_collator(tokenizer, packed=joined), TracedRows(rows)

    def lay(part: Sequence[TracedRow]) -> list[RowSequences]:
        batch = collate([dict(row.row) for row in part])
        read = _joined if joined else _padded
        return read(batch, part, reader)

    return preview_section(
        traced,
        request,
        lay,
        context=context,
        size=size,
        row_word="bin" if isinstance(rows, PackedRows) else "row",
        joined=joined,
        place_of=traced.find,
        notes=notes,
    )


def _padded(batch: Any, part: Sequence[TracedRow], reader: BatchReader) -> list[RowSequences]:
    columns = (batch["input_ids"], batch["labels"], batch["attention_mask"])
    layouts = []
    for row, ids, labels, present in zip(part, *(c.tolist() for c in columns), strict=True):
        trained = after_first(label != IGNORED for label in labels)
        layouts.append(
            RowSequences(
                sequences=(reader.sequence(ids, trained, present, boundaries=row.boundaries),)
            )
        )
    return layouts


def _joined(batch: Any, part: Sequence[TracedRow], reader: BatchReader) -> list[RowSequences]:
    columns = (batch["input_ids"], batch["labels"], batch["position_ids"])
    ids, labels, positions = (column[0].tolist() for column in columns)
    layouts, start = [], 0
    for row in part:
        end = start + len(row.row["input_ids"])
        begins = [place for place in range(end - start) if positions[start + place] == 0]
        trained = [label != IGNORED for label in labels[start:end]]
        lane = reader.sequence(
            ids[start:end],
            after_first(trained),
            [True] * (end - start),
            boundaries={place: row.boundaries.get(place, "a row begins") for place in begins}
            if row.boundaries
            else {},
        )
        layouts.append(RowSequences(sequences=(lane,)))
        start = end
    return layouts
