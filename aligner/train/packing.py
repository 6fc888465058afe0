"""Fill rows to their length: documents cut from one long stream, or whole rows laid end to end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset
from trl import pack_dataset

IGNORED = -100
"""The label of a token that is not trained."""


def stream(documents: Iterable[Sequence[int]], length: int) -> list[list[int]]:
    """Join documents end to end and cut the stream into rows of `length` tokens; the last may be short.

    The way of pre-training: rows hold parts of several documents, which see one another.
    A last row of a single token is left out, as it predicts nothing.
    """
    tokens = [token for document in documents for token in document]
    rows = [tokens[start : start + length] for start in range(0, len(tokens), length)]
    return [row for row in rows if len(row) > 1]


def labelled(input_ids: Sequence[int], trained: Sequence[bool | int]) -> dict[str, Any]:
    """A row as the trainers take it: labels are the tokens themselves where trained, else -100."""
    labels = [token if on else IGNORED for token, on in zip(input_ids, trained, strict=True)]
    return {"input_ids": list(input_ids), "labels": labels, "length": len(input_ids)}


def packed(rows: Sequence[dict[str, Any]], length: int) -> Dataset:
    """Whole rows laid end to end in bins of `length` tokens, best fit first; none is cut.

    Rows in one bin do not see one another: the trainer gives each its own positions, from which the
    model derives a block mask.
    """
    assert all(row["length"] <= length for row in rows), "longer rows were cut or dropped before"
    columns = Dataset.from_list(
        [{"input_ids": r["input_ids"], "labels": r["labels"]} for r in rows]
    )
    bins = pack_dataset(columns, length, strategy="bfd", map_kwargs={"load_from_cache_file": False})
    return bins.with_format(None)
