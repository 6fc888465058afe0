"""Select rows by hashes of their content: a part of the data, or a sample of it."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping

from aligner.data.ledger import Tally
from aligner.data.options import RowSelection
from aligner.data.row_keys import content_key, prompt_key
from aligner.data.rows import Row

# `hold_out` hashes prompts without a salt: with one here, it takes its share of every part.
_PART, _SAMPLE = b"part\0", b"sample\0"


def select_rows(
    rows: Iterator[Row], selection: RowSelection, seed: int, tally: Tally
) -> Iterator[Row]:
    """Return the rows of the part and the sample that `selection` asks for.

    A sample of a number of rows keeps these in memory; anything else keeps one row at a time.
    """
    if selection.part is not None and selection.parts is not None:
        rows = _in_part(rows, selection.part, selection.parts, tally)
    if selection.sample is not None and selection.sample < 1:
        return _sample_share(rows, selection.sample, seed, tally)
    if selection.sample is not None:
        return _sample_count(rows, int(selection.sample), seed, tally)
    return rows


def part_of(row: Row, parts: Mapping[str, float]) -> str:
    """Return the part that contains the row, by a hash of its prompt.

    Args:
        row: Any row.
        parts: Share of each part; they sum to 1. Their order has no effect.
    """
    position = _position(_PART, prompt_key(row).encode("utf-8", "surrogatepass"))
    names = sorted(parts)
    end = 0.0
    for name in names[:-1]:
        end += parts[name]
        if position < end:
            return name
    return names[-1]


def _in_part(
    rows: Iterator[Row], part: str, parts: Mapping[str, float], tally: Tally
) -> Iterator[Row]:
    for row in rows:
        if part_of(row, parts) == part:
            yield row
        else:
            tally.find("other_part", row.origin)


def _sample_share(rows: Iterator[Row], size: float, seed: int, tally: Tally) -> Iterator[Row]:
    for row in rows:
        if _sample_position(row, seed) < size:
            yield row
        else:
            tally.find("not_sampled", row.origin)


def _sample_count(rows: Iterator[Row], size: int, seed: int, tally: Tally) -> Iterator[Row]:
    """Yield `size` of the rows in their order, or all if there are fewer."""
    kept: list[tuple[float, int, Row]] = []  # a heap whose first entry has the largest hash
    for index, row in enumerate(rows):
        heapq.heappush(kept, (-_sample_position(row, seed), -index, row))
        if len(kept) > size:
            tally.find("not_sampled", heapq.heappop(kept)[2].origin)
    yield from (row for _, _, row in sorted(kept, key=lambda entry: -entry[1]))


def _sample_position(row: Row, seed: int) -> float:
    return _position(_SAMPLE + str(seed).encode() + b"\0", content_key(row))


def _position(salt: bytes, key: bytes) -> float:
    """Return a number in [0, 1) that depends on salt and key alone."""
    digest = hashlib.sha256(salt + key).digest()
    return int.from_bytes(digest[:7]) / 2**56  # a float has 53 bits
