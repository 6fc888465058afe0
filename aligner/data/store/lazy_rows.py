"""Sequences of rows that hold no rows themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy
from numpy.typing import NDArray

T = TypeVar("T")
S = TypeVar("S")


class LazyRows(Sequence[T], Generic[T]):
    """Sequence whose rows are made when they are accessed."""

    @abstractmethod
    def _at(self, index: int) -> T:
        """Return the row at a valid index that is not negative."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._at(number) for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} rows, and no row {index}")
        return self._at(number)


class ReorderedRows(LazyRows[T]):
    """Rows of another sequence in another order, each any number of times."""

    def __init__(self, rows: Sequence[T], order: NDArray[numpy.int64]) -> None:
        self.rows, self.order = rows, order

    def __len__(self) -> int:
        return len(self.order)

    def _at(self, index: int) -> T:
        return self.rows[int(self.order[index])]


class MappedRows(LazyRows[S], Generic[T, S]):
    """Results of a function on the rows of another sequence, computed when they are accessed."""

    def __init__(self, rows: Sequence[T], make: Callable[[T], S]) -> None:
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return len(self._rows)

    def _at(self, index: int) -> S:
        return self._make(self._rows[index])

    def __iter__(self) -> Iterator[S]:
        return map(self._make, self._rows)
