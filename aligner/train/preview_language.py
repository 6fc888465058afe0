"""Show rows of a language model as its trainer gets them: alone, laid end to end, or cut from a stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.preview import Asked, Section
from aligner.stage import Look
from aligner.train.collating import language_collator
from aligner.train.packing import IGNORED, labelled, packed
from aligner.train.preview import Laid, Reader, after_first, is_called, section


@dataclass(frozen=True)
class Strip:
    """A row for the collator, and where in it what was written where begins."""

    row: Mapping[str, Any]
    """`input_ids`, `labels`, and of rows laid end to end `seq_lengths`."""
    origin: str
    seams: Mapping[int, str] = field(default_factory=dict)
    members: tuple[int, ...] = ()
    """Numbers of the rows that are laid end to end in it."""


def alone(rows: Sequence[Any]) -> Sequence[Strip]:
    """Each row by itself."""
    return _Strips(rows)


class _Strips(Sequence[Strip]):
    """Made when they are looked at, as there may be very many."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        row = self._rows[place]
        return Strip(labelled(row.input_ids, row.trained), row.origin)


def end_to_end(rows: Sequence[Any], length: int) -> list[Strip]:
    """Rows in bins of `length` tokens, just as they are trained."""
    numbers: dict[tuple[int, ...], list[int]] = defaultdict(list)
    labels, origins = [], []
    for number, row in enumerate(rows):
        labels.append(labelled(row.input_ids, row.trained))
        origins.append(row.origin)
        numbers[tuple(row.input_ids)].append(number)
    return [_bin(dict(one), numbers, origins) for one in packed(labels, length)]


def _bin(
    row: dict[str, Any], numbers: Mapping[tuple[int, ...], list[int]], origins: Sequence[str]
) -> Strip:
    seams: dict[int, str] = {}
    members: list[int] = []
    start = 0
    for length in row["seq_lengths"]:
        number = numbers[tuple(row["input_ids"][start : start + length])].pop(0)
        members.append(number + 1)
        seams[start] = f"row {number + 1}  {origins[number]}"
        start += length
    return Strip(row, _listed(members), seams, tuple(members))


def _listed(members: Sequence[int]) -> str:
    more = f" and {len(members) - 6} more" if len(members) > 6 else ""
    return f"row{'s' if len(members) > 1 else ''} {', '.join(map(str, members[:6]))}{more}"


def streamed(
    documents: Sequence[Any], rows: Sequence[Sequence[int]], length: int
) -> Sequence[Strip]:
    """Rows of `length` tokens that were cut from documents joined end to end."""
    starts: dict[int, dict[int, str]] = defaultdict(dict)
    position, goes_on = 0, dict[int, str]()
    for document in documents:
        number, offset = divmod(position, length)
        starts[number][offset] = document.origin
        position += len(document.input_ids)
        for later in range(number + 1, -(-position // length)):
            goes_on[later] = f"{document.origin}, going on"
    return [
        Strip(
            labelled(row, [True] * len(row)),
            next(iter(starts[number].values()), goes_on.get(number, "")),
            ({0: goes_on[number]} if number in goes_on else {}) | starts[number],
        )
        for number, row in enumerate(rows)
    ]


def language_section(
    strips: Sequence[Strip],
    asked: Asked,
    reader: Reader,
    tokenizer: Any,
    *,
    look: Look,
    size: int,
    packed: bool = False,
    bins: bool = False,
    notes: tuple[str, ...] = (),
) -> Section:
    """Strips as the collator of language models lays them out.

    Args:
        strips: One side of a data set.
        asked: Which of them.
        reader: Reads the batch back.
        tokenizer: The step's.
        look: Where complaints point.
        size: Strips in a batch.
        packed: The collator joins a batch to one sequence without padding.
        bins: Each strip holds several rows, and is asked for by those.
        notes: What is worth knowing of all.

    Raises:
        DataError: there is no such row.
    """
    collate = language_collator(tokenizer, packed=packed)

    def lay(part: Sequence[Strip]) -> list[Laid]:
        batch = collate([dict(strip.row) for strip in part])
        read = _joined if packed else _padded
        return read(batch, part, reader)

    return section(
        strips,
        asked,
        lay,
        look=look,
        size=size,
        row_word="bin" if bins else "row",
        joined=packed,
        number_of=_holding(strips) if bins else None,
        notes=notes,
    )


def _padded(batch: Any, part: Sequence[Strip], reader: Reader) -> list[Laid]:
    columns = (batch["input_ids"], batch["labels"], batch["attention_mask"])
    laid = []
    for strip, ids, labels, present in zip(part, *(c.tolist() for c in columns), strict=True):
        trained = after_first(label != IGNORED for label in labels)
        laid.append(Laid(lanes=(reader.lane(ids, trained, present, seams=strip.seams),)))
    return laid


def _joined(batch: Any, part: Sequence[Strip], reader: Reader) -> list[Laid]:
    columns = (batch["input_ids"], batch["labels"], batch["position_ids"])
    ids, labels, positions = (column[0].tolist() for column in columns)
    laid, start = [], 0
    for strip in part:
        end = start + len(strip.row["input_ids"])
        begins = [place for place in range(end - start) if positions[start + place] == 0]
        trained = [label != IGNORED for label in labels[start:end]]
        lane = reader.lane(
            ids[start:end],
            after_first(trained),
            [True] * (end - start),
            seams={place: strip.seams.get(place, "a row begins") for place in begins}
            if strip.seams
            else {},
        )
        laid.append(Laid(lanes=(lane,)))
        start = end
    return laid


def _holding(strips: Sequence[Strip]) -> Callable[[int | str], int | None]:
    """Finds the bin that holds a row, by the row's number or by where it is written."""

    def find(name: int | str) -> int | None:
        for place, strip in enumerate(strips):
            written = (label.partition("  ")[2] for label in strip.seams.values())
            if name in strip.members or any(is_called(one, str(name)) for one in written):
                return place
        return None

    return find
