"""Malformed rows that were left out, in memory or on the disk."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SkippedRow:
    """A malformed row that was left out, with the reason."""

    origin: str
    reason: str
    row: Any


def write_skipped(skipped: Iterable[SkippedRow], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in skipped:
            file.write(json.dumps([row.origin, row.reason, row.row], default=str) + "\n")


@dataclass(frozen=True)
class SkippedRows(Collection[SkippedRow]):
    """The malformed rows of an option that were left out, read from the disk."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[SkippedRow]:
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                yield SkippedRow(*json.loads(line))

    def __contains__(self, row: object) -> bool:
        return any(row == skipped for skipped in self)
