"""Keep encoded rows in a file and read them back one by one, so that they need no memory."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy
import pyarrow
from numpy.typing import NDArray

from aligner.data.store.token_rows import (
    LabelTokens,
    PreferenceTokens,
    PromptTokens,
    SequenceTokens,
)

T = TypeVar("T")
S = TypeVar("S")
SIZES = ("length", "tokens", "trained_tokens")
"""Columns that say of each row how long it is, how many tokens it has, and how many are trained."""


def _lists(values: Sequence[Any], flat: pyarrow.Array) -> pyarrow.Array:
    ends = numpy.cumsum([0, *map(len, values)], dtype=numpy.int32)
    return pyarrow.ListArray.from_arrays(pyarrow.array(ends), flat)


def _of_tokens(values: Sequence[Sequence[int]]) -> pyarrow.Array:
    count = sum(map(len, values))
    flat = numpy.fromiter(chain.from_iterable(values), dtype=numpy.int32, count=count)
    return _lists(values, pyarrow.array(flat))


def _of_masks(values: Sequence[Sequence[bool]]) -> pyarrow.Array:
    flat = numpy.frombuffer(b"".join(map(bytes, values)), dtype=numpy.bool_)
    return _lists(values, pyarrow.array(flat, type=pyarrow.bool_()))


def _of_json(values: Sequence[Any]) -> pyarrow.Array:
    # Dates and other things that JSON lacks become text.
    return pyarrow.array([json.dumps(one, default=str) for one in values], type=pyarrow.utf8())


def _of_texts(values: Sequence[str]) -> pyarrow.Array:
    encoded = [one.encode("utf-8", "surrogatepass") for one in values]
    return pyarrow.array(encoded, type=pyarrow.binary())


def _list_at(column: pyarrow.ListArray, index: int) -> Any:
    # Arrow's own way makes an object of every number on the way.
    start, end = column.offsets[index].as_py(), column.offsets[index + 1].as_py()
    values = column.values.slice(start, end - start)
    return values.to_numpy(zero_copy_only=False).tolist()


def _text_at(column: pyarrow.Array, index: int) -> str:
    return str(column[index].as_py().decode("utf-8", "surrogatepass"))


def _json_at(column: pyarrow.Array, index: int) -> Any:
    return json.loads(column[index].as_py())


def _turns_at(column: pyarrow.Array, index: int) -> Any:
    turns = _json_at(column, index)
    return None if turns is None else tuple(turns)


@dataclass(frozen=True)
class _Column:
    type: pyarrow.DataType
    write: Callable[[Sequence[Any]], pyarrow.Array]
    read: Callable[[Any, int], Any]


def _plain(kind: pyarrow.DataType) -> _Column:
    return _Column(
        kind, lambda values: pyarrow.array(values, type=kind), lambda one, at: one[at].as_py()
    )


_TOKENS = _Column(pyarrow.list_(pyarrow.int32()), _of_tokens, _list_at)
_MASK = _Column(pyarrow.list_(pyarrow.bool_()), _of_masks, _list_at)
_ENDS = _Column(pyarrow.list_(pyarrow.int32()), _of_tokens, lambda c, at: tuple(_list_at(c, at)))
_TEXT = _Column(pyarrow.binary(), _of_texts, _text_at)
_JSON = _Column(pyarrow.utf8(), _of_json, _json_at)
_TURNS = _Column(pyarrow.utf8(), _of_json, _turns_at)

_FORMS: Mapping[type[Any], Mapping[str, _Column]] = {
    SequenceTokens: {"input_ids": _TOKENS, "trained": _MASK, "ends": _ENDS, "origin": _TEXT},
    PreferenceTokens: {
        "prompt_ids": _TOKENS,
        "chosen_ids": _TOKENS,
        "rejected_ids": _TOKENS,
        "chosen_trained": _MASK,
        "rejected_trained": _MASK,
        "margin": _plain(pyarrow.float64()),
        "origin": _TEXT,
    },
    PromptTokens: {
        "input_ids": _TOKENS,
        "messages": _TURNS,
        "row": _JSON,
        "origin": _TEXT,
        "tools": _TURNS,
    },
    LabelTokens: {
        "prompt_ids": _TOKENS,
        "completion_ids": _TOKENS,
        "label": _plain(pyarrow.bool_()),
        "completion_trained": _MASK,
        "origin": _TEXT,
    },
}
"""How each kind of encoded row is written: one column a field."""


def _schema(form: type[Any]) -> pyarrow.Schema:
    fields = [(name, column.type) for name, column in _FORMS[form].items()]
    return pyarrow.schema([*fields, *((name, pyarrow.int32()) for name in SIZES)])


class RowStoreWriter:
    """Writes rows of one kind, some at a time, into an Arrow stream."""

    def __init__(self, path: Path, form: type[Any]) -> None:
        self._columns, self._schema = _FORMS[form], _schema(form)
        self._file = pyarrow.OSFile(str(path), "wb")
        self._stream = pyarrow.ipc.new_stream(self._file, self._schema)

    def write(self, rows: Sequence[Any], sizes: Sequence[tuple[int, int, int]]) -> None:
        """Add rows, (N,), and the length, tokens and trained tokens of each, (N, 3)."""
        if not rows:
            return
        arrays = [
            column.write([getattr(row, name) for row in rows])
            for name, column in self._columns.items()
        ]
        counts = numpy.array(sizes, dtype=numpy.int32)
        arrays += [pyarrow.array(counts[:, number]) for number in range(len(SIZES))]
        self._stream.write_batch(pyarrow.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        self._stream.close()
        self._file.close()


class _Lazy(Sequence[T], Generic[T]):
    """Rows that are each made when they are asked for."""

    @abstractmethod
    def _at(self, place: int) -> T:
        """The row at `place`, counted from the start; there is one."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._at(place) for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} rows, and no row {index}")
        return self._at(place)


class RowStore(_Lazy[T]):
    """Rows that lie in a file: each is read, and made, when it is asked for."""

    def __init__(self, path: Path, form: type[T]) -> None:
        self._form, self._columns = form, _FORMS[form]
        with pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))) as stream:
            self.batches: Sequence[pyarrow.RecordBatch] = list(stream)
        """The rows by the thousand, as they lie in the file."""
        self._starts = numpy.cumsum([0, *(batch.num_rows for batch in self.batches)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _at(self, place: int) -> T:
        number = int(numpy.searchsorted(self._starts, place, side="right")) - 1
        return self._row(self.batches[number], place - int(self._starts[number]))

    def __iter__(self) -> Iterator[T]:
        for batch in self.batches:
            for index in range(batch.num_rows):
                yield self._row(batch, index)

    def _row(self, batch: pyarrow.RecordBatch, index: int) -> T:
        return self._form(
            **{name: one.read(batch.column(name), index) for name, one in self._columns.items()}
        )

    def sizes(self, name: str) -> NDArray[numpy.int32]:
        """One of the columns in `SIZES`, (rows,)."""
        parts = [batch.column(name).to_numpy() for batch in self.batches]
        return numpy.concatenate(parts) if parts else numpy.zeros(0, dtype=numpy.int32)


class ReorderedRows(_Lazy[T]):
    """Rows in another order, some of them more than once, some not at all."""

    def __init__(self, rows: Sequence[T], order: NDArray[numpy.int64]) -> None:
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return len(self._order)

    def _at(self, place: int) -> T:
        return self._rows[int(self._order[place])]


class MappedRows(_Lazy[S], Generic[T, S]):
    """Rows as something else, made of each when it is asked for."""

    def __init__(self, rows: Sequence[T], make: Callable[[T], S]) -> None:
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return len(self._rows)

    def _at(self, place: int) -> S:
        return self._make(self._rows[place])

    def __iter__(self) -> Iterator[S]:
        return map(self._make, self._rows)
