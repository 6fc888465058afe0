"""Lay rows for a trainer on the disk, so that any number of them needs no memory while it trains."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset
from datasets.table import InMemoryTable

_AT_ONCE = 1000
"""Rows that are written together."""


def to_arrow_dataset(rows: Iterable[Mapping[str, Any]], folder: Path) -> Dataset:
    """`rows` as the data set that a trainer takes: each is read when it is asked for.

    Args:
        rows: All with the same columns: lists of token ids or labels (int32), whole numbers, or floats.
        folder: Where there is room. Nothing is left there: the file goes with the data set, or the
            process.
    """
    path = folder / f".rows.{os.getpid()}.arrow"
    parts = _batches(iter(rows))
    first = next(parts, None)
    if first is None:
        return Dataset.from_list([])
    try:
        with (
            pyarrow.OSFile(str(path), "wb") as file,
            pyarrow.ipc.new_stream(file, first.schema) as stream,
        ):
            for part in chain([first], parts):
                stream.write_batch(part)
        mapped = pyarrow.memory_map(str(path))
    finally:
        path.unlink(missing_ok=True)  # what is mapped stays readable until nobody reads it any more
    # As a table in memory, or datasets would want to write beside the file.
    return Dataset(InMemoryTable(pyarrow.ipc.open_stream(mapped).read_all()))


def _batches(rows: Iterator[Mapping[str, Any]]) -> Iterator[pyarrow.RecordBatch]:
    while part := list(islice(rows, _AT_ONCE)):
        names = list(part[0])
        columns = [[row[name] for row in part] for name in names]
        arrays = [pyarrow.array(one, type=_type(one)) for one in columns]
        yield pyarrow.record_batch(arrays, names=names)


def _type(column: Sequence[Any]) -> pyarrow.DataType:
    if isinstance(column[0], list):
        return pyarrow.list_(pyarrow.int32())
    return pyarrow.float64() if isinstance(column[0], float) else pyarrow.int64()
