"""Fill rows to their length: documents cut from one long stream, or whole rows laid end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from datasets import Dataset
from trl import pack_dataset

IGNORED = -100
"""The label of a token that is not trained."""
_PACKED_AT_ONCE = 1000


def stream(documents: Iterable[Sequence[int]], length: int) -> Iterator[list[int]]:
    """Join documents end to end and cut the stream into rows of `length` tokens; the last may be short.

    The way of pre-training: rows hold parts of several documents, which see one another.
    A last row of a single token is left out, as it predicts nothing.
    """
    waiting: list[int] = []
    for document in documents:
        waiting.extend(document)
        whole = len(waiting) - len(waiting) % length
        yield from (waiting[start : start + length] for start in range(0, whole, length))
        del waiting[:whole]
    if len(waiting) > 1:
        yield waiting


def streamed_rows(tokens: int, length: int) -> int:
    """How many rows `stream` makes of documents of so many tokens in all."""
    whole, rest = divmod(tokens, length)
    return whole + (rest > 1)


def labeled(input_ids: Sequence[int], trained: Sequence[bool | int]) -> dict[str, Any]:
    """A row as the trainers take it: labels are the tokens themselves where trained, else -100."""
    labels = [token if on else IGNORED for token, on in zip(input_ids, trained, strict=True)]
    return {"input_ids": list(input_ids), "labels": labels, "length": len(input_ids)}


def packed(rows: Iterable[dict[str, Any]], length: int) -> Iterator[dict[str, Any]]:
    """Whole rows laid end to end in bins of `length` tokens, best fit first; none is cut.

    Rows in one bin do not see one another: the trainer gives each its own positions, from which the
    model derives a block mask. A thousand rows are packed at a time.
    """
    rows = iter(rows)
    while part := list(islice(rows, _PACKED_AT_ONCE)):
        assert all(row["length"] <= length for row in part), (
            "longer rows were cut or dropped before"
        )
        columns = [{"input_ids": r["input_ids"], "labels": r["labels"]} for r in part]
        bins = pack_dataset(
            Dataset.from_list(columns),
            length,
            strategy="bfd",
            map_kwargs={"load_from_cache_file": False},
        )
        yield from bins.with_format(None)
