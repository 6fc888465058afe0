"""Rows as the data set that a trainer takes: each is read and built when a batch needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pyarrow
from datasets import Dataset
from datasets.table import InMemoryTable

ROW, LENGTH = "row", "length"
"""Columns of such a data set: the number of each row and, for the sampler, its number of tokens."""


def row_dataset(rows: Sequence[Mapping[str, Any]], *, with_lengths: bool) -> Dataset:
    """Return a data set of `rows` that holds nothing but their numbers, and their lengths if asked.

    Rows stay where preparation wrote them: nothing is written again, and any number needs no memory.

    Args:
        rows: With the same keys each, among them `length` if it is asked for.
        with_lengths: Read all rows once, so that batches can be made of rows of similar length.
    """
    columns = {ROW: pyarrow.array(numpy.arange(len(rows)))}
    if with_lengths:
        lengths = numpy.fromiter((row[LENGTH] for row in rows), dtype=numpy.int32, count=len(rows))
        columns[LENGTH] = pyarrow.array(lengths)
    dataset = Dataset(InMemoryTable(pyarrow.table(columns)))
    return dataset.with_transform(_Reader(rows))


def add_columns(dataset: Dataset, columns: Mapping[str, Sequence[float]]) -> Dataset:
    """Return a `row_dataset` whose rows have further columns, held in memory."""
    read = dataset.format["format_kwargs"]["transform"]
    for name, values in columns.items():
        dataset = dataset.with_format(None).add_column(name, list(values))
    return dataset.with_transform(read)


class _Reader:
    """The transform of a `row_dataset`: turns numbers of rows into the rows."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found = [self._rows[number] for number in batch[ROW]]
        added = {name: column for name, column in batch.items() if name not in (ROW, LENGTH)}
        return {name: [row[name] for row in found] for name in found[0]} | added

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        # datasets names a transform by the hash of its pickle, which must not contain all rows.
        return int, (id(self),)
