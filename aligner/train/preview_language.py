"""Show rows of a language model as its trainer gets them: alone, laid end to end, or cut from a stream."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.preview import PreviewRequest, PreviewSection
from aligner.stage import PlanContext
from aligner.train.collating import language_collator
from aligner.train.packing import IGNORED, labeled, packed, stream
from aligner.train.preview import Laid, Reader, after_first, is_called, section


@dataclass(frozen=True)
class Strip:
    """A row for the collator, and where in it what was written where begins."""

    row: Mapping[str, Any]
    """`input_ids`, `labels`, and of rows laid end to end `seq_lengths`."""
    origin: str
    boundaries: Mapping[int, str] = field(default_factory=dict)
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
        return Strip(labeled(row.input_ids, row.trained), row.origin)


class Some(Sequence[Strip]):
    """Strips of which only those are kept that are asked for, with the batches they are in."""

    def __init__(self, strips: Iterable[Strip], request: PreviewRequest, *, size: int) -> None:
        """Args:
        strips: All of them, in order; there may be very many.
        asked: Which rows.
        size: Strips in a batch.
        """
        self._kept: dict[int, Strip] = {}
        self._places: dict[int | str, int] = {}
        self._count = 0
        waiting: list[Strip] = []
        for place, strip in enumerate(strips):
            if place % size == 0:
                waiting = []
            waiting.append(strip)
            self._count = place + 1
            for name in request.rows:
                if name not in self._places and _holds(strip, place, name):
                    self._places[name] = place
            if place == 0 or any(where // size == place // size for where in self._places.values()):
                first = place - place % size
                self._kept.update(enumerate(waiting, start=first))

    def find(self, name: int | str) -> int | None:
        """Where the row that is called so stands; of rows laid end to end, the bin that holds it."""
        return self._places.get(name)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        return self._kept[place]


def _holds(strip: Strip, place: int, name: int | str) -> bool:
    if isinstance(name, int):
        return name in strip.members if strip.members else name == place + 1
    return any(is_called(label.rpartition("  ")[2], name) for label in strip.boundaries.values())


def end_to_end(rows: Iterable[Any], length: int) -> Iterator[Strip]:
    """Rows in bins of `length` tokens, just as they are trained."""
    numbers: dict[int, deque[int]] = defaultdict(deque)
    origins: list[str] = []

    def labels() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows):
            origins.append(row.origin)
            numbers[hash(tuple(row.input_ids))].append(number)
            yield labeled(row.input_ids, row.trained)

    for row in packed(labels(), length):
        yield _bin(dict(row), numbers, origins)


def _bin(row: dict[str, Any], numbers: Mapping[int, deque[int]], origins: Sequence[str]) -> Strip:
    boundaries: dict[int, str] = {}
    members: list[int] = []
    start = 0
    for length in row["seq_lengths"]:
        number = numbers[hash(tuple(row["input_ids"][start : start + length]))].popleft()
        members.append(number + 1)
        boundaries[start] = f"row {number + 1}  {origins[number]}"
        start += length
    return Strip(row, _listed(members), boundaries, tuple(members))


def _listed(members: Sequence[int]) -> str:
    more = f" and {len(members) - 6} more" if len(members) > 6 else ""
    return f"row{'s' if len(members) > 1 else ''} {', '.join(map(str, members[:6]))}{more}"


def streamed(documents: Iterable[Any], length: int) -> Iterator[Strip]:
    """Rows of `length` tokens, cut from documents joined end to end just as they are trained."""
    starts: deque[tuple[int, str]] = deque()

    def joined() -> Iterator[Sequence[int]]:
        position = 0
        for document in documents:
            starts.append((position, document.origin))
            position += len(document.input_ids)
            yield document.input_ids

    last = ""
    for number, row in enumerate(stream(joined(), length)):
        boundaries: dict[int, str] = {}
        if (starts and starts[0][0] > number * length) or not starts:
            boundaries[0] = f"going on  {last}"
        while starts and starts[0][0] < (number + 1) * length:
            position, last = starts.popleft()
            boundaries[position - number * length] = last
        origin = next(iter(boundaries.values())).rpartition("  ")[2]
        yield Strip(labeled(row, [True] * len(row)), origin, boundaries)


def language_section(
    strips: Sequence[Strip],
    request: PreviewRequest,
    reader: Reader,
    tokenizer: Any,
    *,
    context: PlanContext,
    size: int,
    joined: bool = False,
    bins: bool = False,
    notes: tuple[str, ...] = (),
) -> PreviewSection:
    """Strips as the collator of language models lays them out.

    Args:
        strips: One side of a data set.
        asked: Which of them.
        reader: Reads the batch back.
        tokenizer: The step's.
        look: Where complaints point.
        size: Strips in a batch.
        joined: The collator joins a batch to one sequence without padding.
        bins: Each strip holds several rows, and is asked for by those.
        notes: What is worth knowing of all.

    Raises:
        DataError: there is no such row.
    """
    collate = language_collator(tokenizer, packed=joined)

    def lay(part: Sequence[Strip]) -> list[Laid]:
        batch = collate([dict(strip.row) for strip in part])
        read = _joined if joined else _padded
        return read(batch, part, reader)

    return section(
        strips,
        request,
        lay,
        context=context,
        size=size,
        row_word="bin" if bins else "row",
        joined=joined,
        number_of=strips.find if isinstance(strips, Some) else None,
        notes=notes,
    )


def _padded(batch: Any, part: Sequence[Strip], reader: Reader) -> list[Laid]:
    columns = (batch["input_ids"], batch["labels"], batch["attention_mask"])
    laid = []
    for strip, ids, labels, present in zip(part, *(c.tolist() for c in columns), strict=True):
        trained = after_first(label != IGNORED for label in labels)
        laid.append(
            Laid(sequences=(reader.lane(ids, trained, present, boundaries=strip.boundaries),))
        )
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
            boundaries={place: strip.boundaries.get(place, "a row begins") for place in begins}
            if strip.boundaries
            else {},
        )
        laid.append(Laid(sequences=(lane,)))
        start = end
    return laid
