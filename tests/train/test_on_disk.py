"""Rows for trainers lie on the disk and are the rows that were given, packed or streamed or as they are."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import pack_dataset

from aligner.train.arrow_dataset import to_arrow_dataset
from aligner.train.packing import labeled, packed, stream, streamed_rows


def rows(count: int) -> list[dict[str, Any]]:
    dice = random.Random(0)
    lengths = [dice.randrange(1, 30) for _ in range(count)]
    return [labeled(list(range(length)), [n % 3 > 0 for n in range(length)]) for length in lengths]


def test_what_is_laid_on_the_disk_is_read_back_and_leaves_no_file(tmp_path: Path) -> None:
    given = [{**row, "margin": 0.5 * number} for number, row in enumerate(rows(2500))]
    laid = to_arrow_dataset(iter(given), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert list(laid) == given == list(Dataset.from_list(given))
    assert laid[2400] == given[2400]
    assert list(laid.add_column("more", list(range(2500)))["more"]) == list(range(2500))
    assert laid.cache_files == []


def test_no_rows_are_an_empty_data_set(tmp_path: Path) -> None:
    assert len(to_arrow_dataset([], tmp_path)) == 0


def test_rows_packed_a_thousand_at_a_time_are_packed_as_all_at_once() -> None:
    given = rows(2300)
    columns = [{name: row[name] for name in ("input_ids", "labels")} for row in given]
    whole = pack_dataset(Dataset.from_list(columns), 32, strategy="bfd").with_format(None)
    assert list(packed(iter(given), 32)) == list(whole)


def test_a_stream_is_the_documents_end_to_end() -> None:
    documents = [row["input_ids"] for row in rows(50)]
    for length in (2, 7, 1000):
        tokens = [token for one in documents for token in one]
        plain = [tokens[at : at + length] for at in range(0, len(tokens), length)]
        made = list(stream(iter(documents), length))
        assert made == [row for row in plain if len(row) > 1]
        assert streamed_rows(len(tokens), length) == len(made)
