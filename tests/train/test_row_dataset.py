"""A trainer's data set reads rows when a batch needs them, and writes nothing."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from aligner.train.row_dataset import add_columns, row_dataset


class Rows(list[dict[str, Any]]):
    """Rows that keep count of which of them are read."""

    def __init__(self, count: int) -> None:
        super().__init__({"ids": [n] * (n % 5 + 1), "length": n % 5 + 1} for n in range(count))
        self.read: list[int] = []

    def __getitem__(self, place: Any) -> Any:
        self.read.append(place)
        return super().__getitem__(place)


def test_batches_are_the_rows_and_only_they_are_read() -> None:
    rows = Rows(2500)
    dataset = row_dataset(rows, with_lengths=True)
    rows.read.clear()
    assert len(dataset) == 2500
    assert dataset[2400] == {"ids": [2400], "length": 1}
    assert dataset[3:5] == {"ids": [[3] * 4, [4] * 5], "length": [4, 5]}
    assert rows.read == [2400, 3, 4]
    assert dataset.with_format(None)["length"][:] == [row["length"] for row in rows]
    loader = DataLoader(dataset, batch_size=2, collate_fn=list)  # type: ignore[arg-type]  # datasets
    assert next(iter(loader)) == [{"ids": [0], "length": 1}, {"ids": [1, 1], "length": 2}]
    assert dataset.cache_files == []


def test_columns_that_are_added_come_with_each_row() -> None:
    rows = [{"ids": [number]} for number in range(3)]
    dataset = add_columns(
        row_dataset(rows, with_lengths=False), {"a": [0.5, 1.5, 2.5], "b": [7, 8, 9]}
    )
    assert dataset[1] == {"ids": [1], "a": 1.5, "b": 8}
    assert list(dataset) == [
        {"ids": [0], "a": 0.5, "b": 7},
        {"ids": [1], "a": 1.5, "b": 8},
        {"ids": [2], "a": 2.5, "b": 9},
    ]


def test_no_rows_are_an_empty_data_set() -> None:
    assert not row_dataset([], with_lengths=True)


class Unpicklable(list[dict[str, Any]]):
    """Rows that must not be copied."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("the rows are pickled")


def test_naming_a_data_set_reads_no_rows() -> None:
    """datasets hashes what it transforms with, and warns or fails if it cannot."""
    dataset = row_dataset(Unpicklable([{"ids": [1]}]), with_lengths=False)
    assert add_columns(dataset, {"a": [1.0]})[0] == {"ids": [1], "a": 1.0}
