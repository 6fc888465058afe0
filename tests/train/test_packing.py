"""Rows are labeled, packed and streamed when they are read, and are those of the plain way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from datasets import Dataset
from trl import pack_dataset

from aligner.data.store.token_rows import SequenceTokens
from aligner.train.packing import LanguageRows, PackedRows, StreamedRows, labeled, streamed_rows


def rows(count: int) -> list[SequenceTokens]:
    dice = random.Random(0)
    lengths = [dice.randrange(1, 30) for _ in range(count)]
    return [
        SequenceTokens(
            [100 * number + n for n in range(length)], [n % 3 > 0 for n in range(length)]
        )
        for number, length in enumerate(lengths)
    ]


def test_labels_are_the_trained_tokens() -> None:
    found = LanguageRows([SequenceTokens([5, 6, 7], [False, True, True])])
    assert list(found) == [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "length": 3}]
    assert found[-1] == found[0] == found[0:1][0]
    with pytest.raises(IndexError, match=r"^there are 1 rows, and no row 1$"):
        found[1]


def test_rows_packed_a_thousand_at_a_time_are_packed_as_trl_packs_all_at_once() -> None:
    given = rows(2300)
    columns = [labeled(row.input_ids, row.trained) for row in given]
    plain = [{name: row[name] for name in ("input_ids", "labels")} for row in columns]
    whole = pack_dataset(Dataset.from_list(plain), 32, strategy="bfd").with_format(None)
    packed = PackedRows(given, 32)
    assert list(packed) == list(whole)
    assert sorted(number for members in packed.bins for number in members) == list(range(2300))


@pytest.mark.parametrize("length", [2, 7, 1000])
def test_a_stream_is_the_documents_end_to_end(length: int) -> None:
    given = rows(50)
    tokens = [token for row in given for token in row.input_ids]
    plain = [tokens[at : at + length] for at in range(0, len(tokens), length)]
    streamed = StreamedRows(given, length)
    assert [row["input_ids"] for row in streamed] == [row for row in plain if len(row) > 1]
    assert all(row["labels"] == row["input_ids"] for row in streamed)
    assert len(streamed) == streamed_rows(len(tokens), length)


class Counting(Sequence[SequenceTokens]):
    """Documents that keep count of which of them are read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: Any) -> Any:
        if place >= self.count:
            raise IndexError(place)
        self.read.append(place)
        return SequenceTokens([place] * 3, [True] * 3)


def test_of_very_many_documents_only_those_of_a_row_are_read() -> None:
    documents = Counting(10_000)
    streamed = StreamedRows(documents, 6)
    documents.read.clear()
    assert streamed[2000]["input_ids"] == [4000] * 3 + [4001] * 3
    assert documents.read == [4000, 4001]
