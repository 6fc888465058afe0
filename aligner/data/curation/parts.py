"""Choose rows by hashes of what they say: a part of the data, or a sample of it."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping

from aligner.data.ledger import Tally
from aligner.data.row_keys import content_key, prompt_key
from aligner.data.rows import Row

# Another salt than `hold_out` has (none), so that what is held out of a part is a share of it.
_PART, _SAMPLE = b"part\0", b"sample\0"


def part_of(row: Row, parts: Mapping[str, float]) -> str:
    """Which of `parts` (shares that make 1) the row falls in, by a hash of its prompt.

    The order in which the parts are written makes no difference.
    """
    at = _place(_PART, prompt_key(row).encode("utf-8", "surrogatepass"))
    names = sorted(parts)
    end = 0.0
    for name in names[:-1]:
        end += parts[name]
        if at < end:
            return name
    return names[-1]


def in_part(
    rows: Iterator[Row], part: str, parts: Mapping[str, float], tally: Tally
) -> Iterator[Row]:
    """The rows of one part."""
    for row in rows:
        if part_of(row, parts) == part:
            yield row
        else:
            tally.find("other_part", row.origin)


def share(rows: Iterator[Row], size: float, seed: int, tally: Tally) -> Iterator[Row]:
    """About the share `size` of the rows; equal rows fare alike, and others change nothing."""
    for row in rows:
        if _drawn(row, seed) < size:
            yield row
        else:
            tally.find("not_sampled", row.origin)


def count(rows: Iterator[Row], size: int, seed: int, tally: Tally) -> Iterator[Row]:
    """`size` of the rows, in their order; those are held in memory. All, where there are fewer."""
    kept: list[tuple[float, int, Row]] = []  # the largest hash first, as it makes way first
    for index, row in enumerate(rows):
        heapq.heappush(kept, (-_drawn(row, seed), -index, row))
        if len(kept) > size:
            tally.find("not_sampled", heapq.heappop(kept)[2].origin)
    yield from (row for _, _, row in sorted(kept, key=lambda one: -one[1]))


def _drawn(row: Row, seed: int) -> float:
    return _place(_SAMPLE + str(seed).encode() + b"\0", content_key(row))


def _place(salt: bytes, key: bytes) -> float:
    """A number in [0, 1) that the key alone decides."""
    digest = hashlib.sha256(salt + key).digest()
    return int.from_bytes(digest[:7]) / 2**56  # 53 bits are all a float keeps apart
