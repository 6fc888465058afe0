"""Remember which rows have been seen, in eight bytes a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray


class DigestSet:
    """A growing set of 64-bit digests, in sorted runs of which each is longer than all after it.

    Two among ten million different rows have the same digest once in 400,000 times.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[numpy.uint64]] = []

    def has(self, digests: Sequence[int]) -> list[bool]:
        """Which of `digests`, (N,), were added before."""
        asked = numpy.array(digests, dtype=numpy.uint64)
        found = numpy.zeros(len(asked), dtype=bool)
        for run in self._runs:
            at = numpy.minimum(numpy.searchsorted(run, asked), len(run) - 1)
            found |= run[at] == asked
        return [bool(one) for one in found]

    def add(self, digests: Sequence[int]) -> list[bool]:
        """Add `digests`, (N,); which of them had been there, or stand in `digests` twice by now.

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
    """The 64 bits by which a row is remembered."""
    return int.from_bytes(digest[:8])
