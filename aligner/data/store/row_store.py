"""Store tokenized rows in a file and read them back one by one, so that they need no memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy
import pyarrow
from numpy.typing import NDArray

from aligner.data.store.lazy_rows import LazyRows
from aligner.data.store.token_columns import SIZES, TOKEN_COLUMNS, row_schema

T = TypeVar("T")


class RowStoreWriter:
    """Writer of rows of one kind into an Arrow stream, some at a time."""

    def __init__(self, path: Path, form: type[Any]) -> None:
        self._columns, self._schema = TOKEN_COLUMNS[form], row_schema(form)
        self._file = pyarrow.OSFile(str(path), "wb")
        self._stream = pyarrow.ipc.new_stream(self._file, self._schema)

    def write(self, rows: Sequence[Any], sizes: Sequence[tuple[int, int, int]]) -> None:
        """Add N rows and the values of their `SIZES` columns, (N, 3)."""
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


class RowStore(LazyRows[T]):
    """Tokenized rows in a file; each is read when it is accessed, so that they need no memory.

    The file is an Arrow stream with one column for each field of the row and those in `SIZES`. It is
    memory-mapped: one process writes it, any number read it at the same time. Trainers read
    rows from it as they need them: see `aligner.train.row_dataset`.
    """

    def __init__(self, path: Path, form: type[T]) -> None:
        self.path = path
        self._form, self._columns = form, TOKEN_COLUMNS[form]
        with pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))) as stream:
            self.schema: pyarrow.Schema = stream.schema
            self.batches: Sequence[pyarrow.RecordBatch] = list(stream)
        """Record batches of the file, a thousand rows each."""
        self._starts = numpy.cumsum([0, *(batch.num_rows for batch in self.batches)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _at(self, index: int) -> T:
        number = int(numpy.searchsorted(self._starts, index, side="right")) - 1
        return self._row(self.batches[number], index - int(self._starts[number]))

    def __iter__(self) -> Iterator[T]:
        for batch in self.batches:
            for index in range(batch.num_rows):
                yield self._row(batch, index)

    def _row(self, batch: pyarrow.RecordBatch, index: int) -> T:
        return self._form(
            **{
                name: column.read(batch.column(name), index)
                for name, column in self._columns.items()
            }
        )

    def sizes(self, name: str) -> NDArray[numpy.int32]:
        """Return one of the columns in `SIZES`, (rows,)."""
        parts = [batch.column(name).to_numpy() for batch in self.batches]
        return numpy.concatenate(parts) if parts else numpy.zeros(0, dtype=numpy.int32)
