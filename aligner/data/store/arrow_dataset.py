"""Give trainers the stored rows as a `datasets.Dataset` over the same file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy
import pyarrow
import pyarrow.compute
from datasets import Dataset
from datasets.table import InMemoryTable

from aligner.data.store.lazy_rows import ReorderedRows
from aligner.data.store.row_store import RowStore


def to_dataset(
    rows: Sequence[Any], columns: Sequence[str], *, defaults: Mapping[str, Any] | None = None
) -> Dataset:
    """Return the given columns of stored rows as a data set that reads the memory-mapped file.

    Nothing is copied or written: the data set holds the record batches of the `RowStore`, in the order of
    a `ReorderedRows` where there is one. Any number of processes may read the file.

    Args:
        rows: Rows of `PreparedData`: a `RowStore`, some order of one, or an empty list.
        columns: Names of fields of the rows, or of `SIZES`.
        defaults: Values in place of None, by column; such a column is copied.
    """
    if not len(rows):
        return Dataset.from_list([])
    store, order = (rows.rows, rows.order) if isinstance(rows, ReorderedRows) else (rows, None)
    if not isinstance(store, RowStore):
        raise TypeError(f"rows that are not stored have no columns: {type(store).__name__}")
    table = pyarrow.Table.from_batches(store.batches, store.schema).select(list(columns))
    for column, value in (defaults or {}).items():
        filled = pyarrow.compute.fill_null(table[column], value)
        table = table.set_column(table.schema.get_field_index(column), column, filled)
    name = sha256(f"{store.path} {list(columns)} {defaults}".encode())
    # As a table in memory (which these mapped batches need none of), or `datasets` would write its caches
    # beside the file; with a fingerprint, or it would read all rows to compute one.
    dataset = Dataset(InMemoryTable(table), fingerprint=name.hexdigest()[:16])
    if order is None:
        return dataset
    name.update(numpy.ascontiguousarray(order).tobytes())
    return dataset.select(order, keep_in_memory=True, new_fingerprint=name.hexdigest()[:16])
