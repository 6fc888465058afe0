"""Rows filled up to one length: documents split from one long stream, or whole rows packed in bins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, overload

import numpy
import pyarrow
from datasets import Dataset
from datasets.table import InMemoryTable
from numpy.typing import NDArray
from trl import pack_dataset

from aligner.data.store.token_rows import SequenceTokens

IGNORED = -100
"""Label of a token that is not trained."""
_PACKED_AT_ONCE = 1000
"""Rows among which the best fit for a bin is searched."""

LanguageRow = dict[str, Any]
"""A row for the trainer: `input_ids`, `labels` and `length`; of packed rows, `seq_lengths`."""


def labeled(input_ids: Sequence[int], trained: Sequence[bool | int]) -> LanguageRow:
    """Return a row whose labels are the tokens themselves where they are trained, otherwise -100."""
    labels = [token if on else IGNORED for token, on in zip(input_ids, trained, strict=True)]
    return {"input_ids": list(input_ids), "labels": labels, "length": len(input_ids)}


class LanguageRows(Sequence[LanguageRow]):
    """Tokenized rows with labels, each built when it is read."""

    def __init__(self, rows: Sequence[SequenceTokens]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> LanguageRow: ...
    @overload
    def __getitem__(self, place: slice) -> list[LanguageRow]: ...
    def __getitem__(self, place: int | slice) -> LanguageRow | list[LanguageRow]:
        if isinstance(place, slice):
            return [self.at(n) for n in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} rows, and no row {place}")
        return self.at(place % len(self))

    def at(self, place: int) -> LanguageRow:
        """Return the row with this number."""
        row = self.rows[place]
        return labeled(row.input_ids, row.trained)


class StreamedRows(LanguageRows):
    """Documents joined end to end and split into rows of `length` tokens; the last may be shorter.

    As in pretraining, rows contain parts of several documents, which see one another. A last row of a
    single token is left out, as it predicts nothing.
    """

    def __init__(self, rows: Sequence[SequenceTokens], length: int) -> None:
        super().__init__(rows)
        self.length = length
        self.starts = numpy.concatenate([[0], numpy.cumsum(_lengths(rows))])
        """Position of each document in the stream, and the end of the last."""

    def __len__(self) -> int:
        return streamed_rows(int(self.starts[-1]), self.length)

    def at(self, place: int) -> LanguageRow:
        begin = place * self.length
        numbers = self.documents(place)
        tokens = list(chain.from_iterable(self.rows[number].input_ids for number in numbers))
        offset = begin - int(self.starts[numbers[0]])
        tokens = tokens[offset : offset + self.length]
        return labeled(tokens, [True] * len(tokens))

    def documents(self, place: int) -> range:
        """Return the numbers of the documents of which a row contains tokens."""
        begin = place * self.length
        end = min(begin + self.length, int(self.starts[-1]))
        first = int(numpy.searchsorted(self.starts, begin, side="right")) - 1
        return range(first, int(numpy.searchsorted(self.starts, end, side="left")))


def streamed_rows(tokens: int, length: int) -> int:
    """Count the rows of a stream of so many tokens."""
    whole, rest = divmod(tokens, length)
    return whole + (rest > 1)


class PackedRows(LanguageRows):
    """Whole rows in bins of up to `length` tokens, best fit first; none is truncated.

    Rows in a bin do not see one another: the trainer gives each its own positions, from which the model
    derives a block mask.
    """

    def __init__(self, rows: Sequence[SequenceTokens], length: int) -> None:
        super().__init__(rows)
        self.bins = list(_bins(_lengths(rows), length))
        """Numbers of the rows in each bin."""

    def __len__(self) -> int:
        return len(self.bins)

    def at(self, place: int) -> LanguageRow:
        parts = [super(PackedRows, self).at(int(number)) for number in self.bins[place]]
        return {
            "input_ids": list(chain.from_iterable(part["input_ids"] for part in parts)),
            "labels": list(chain.from_iterable(part["labels"] for part in parts)),
            "seq_lengths": [part["length"] for part in parts],
        }


def _lengths(rows: Sequence[SequenceTokens]) -> NDArray[numpy.int64]:
    counts = (len(row.input_ids) for row in rows)
    return numpy.fromiter(counts, dtype=numpy.int64, count=len(rows))


def _bins(lengths: NDArray[numpy.int64], length: int) -> Iterator[NDArray[numpy.int64]]:
    """Yield the row numbers of each bin, as TRL packs rows of these lengths."""
    assert (lengths <= length).all(), "longer rows were truncated or dropped before"
    for start in range(0, len(lengths), _PACKED_AT_ONCE):
        part = lengths[start : start + _PACKED_AT_ONCE]
        # Each row is its own number, repeated: what TRL packs shows which rows a bin contains.
        ends = numpy.concatenate([[0], numpy.cumsum(part)]).astype(numpy.int32)
        numbers = numpy.repeat(numpy.arange(start, start + len(part)), part)
        column = pyarrow.ListArray.from_arrays(pyarrow.array(ends), pyarrow.array(numbers))
        table = InMemoryTable(pyarrow.table({"input_ids": column}))
        fresh = {"load_from_cache_file": False}
        for packed in pack_dataset(Dataset(table), length, strategy="bfd", map_kwargs=fresh):
            first = numpy.cumsum([0, *packed["seq_lengths"][:-1]])
            yield numpy.asarray(packed["input_ids"])[first]
