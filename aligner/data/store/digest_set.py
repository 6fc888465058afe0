"""Set of digests of rows, in eight bytes each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray


class DigestSet:
    """A growing set of 64-bit digests, in sorted arrays of decreasing length.

    The probability that two of ten million different rows share a digest is 1 in 400,000.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[numpy.uint64]] = []

    def has(self, digests: Sequence[int]) -> list[bool]:
        """Return for each of `digests`, (N,), True if it was added before."""
        asked = numpy.array(digests, dtype=numpy.uint64)
        found = numpy.zeros(len(asked), dtype=bool)
        for run in self._runs:
            at = numpy.minimum(numpy.searchsorted(run, asked), len(run) - 1)
            found |= run[at] == asked
        return [bool(value) for value in found]

    def add(self, digests: Sequence[int]) -> list[bool]:
        """Add `digests`, (N,), and return for each True if it was there or precedes itself in them.

        >>> DigestSet().add([3, 1, 3])
        [False, False, True]
        """
        there = self.has(digests)
        here: set[int] = set()
        for index, digest in enumerate(digests):
            there[index] |= digest in here
            here.add(digest)
        if here:
            self._runs.append(numpy.array(sorted(here), dtype=numpy.uint64))
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(numpy.union1d(before, last))
        return there


def digest_prefix(digest: bytes) -> int:
    """Return the first 64 bits of a digest."""
    return int.from_bytes(digest[:8])
