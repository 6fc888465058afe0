"""Arrow columns of tokenized rows: how each field is written, and read back one row at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy
import pyarrow

from aligner.data.store.token_rows import (
    LabelTokens,
    PreferenceTokens,
    PromptTokens,
    SequenceTokens,
)

SIZES = ("length", "tokens", "trained_tokens")
"""Columns of every kind of row: its length, the number of its tokens, and how many of them are trained."""


def _lists(values: Sequence[Any], flat: pyarrow.Array) -> pyarrow.Array:
    ends = numpy.cumsum([0, *map(len, values)], dtype=numpy.int32)
    return pyarrow.ListArray.from_arrays(pyarrow.array(ends), flat)


def _write_tokens(values: Sequence[Sequence[int]]) -> pyarrow.Array:
    count = sum(map(len, values))
    flat = numpy.fromiter(chain.from_iterable(values), dtype=numpy.int32, count=count)
    return _lists(values, pyarrow.array(flat))


def _write_masks(values: Sequence[Sequence[bool]]) -> pyarrow.Array:
    flat = numpy.frombuffer(b"".join(map(bytes, values)), dtype=numpy.bool_)
    return _lists(values, pyarrow.array(flat, type=pyarrow.bool_()))


def _write_json(values: Sequence[Any]) -> pyarrow.Array:
    # Dates and other things that JSON lacks become text.
    return pyarrow.array([json.dumps(value, default=str) for value in values], type=pyarrow.utf8())


def _write_texts(values: Sequence[str]) -> pyarrow.Array:
    encoded = [text.encode("utf-8", "surrogatepass") for text in values]
    return pyarrow.array(encoded, type=pyarrow.binary())


def _read_list(column: pyarrow.ListArray, index: int) -> Any:
    # `as_py` of a list makes a Python object of every number twice.
    start, end = column.offsets[index].as_py(), column.offsets[index + 1].as_py()
    values = column.values.slice(start, end - start)
    return values.to_numpy(zero_copy_only=False).tolist()


def _read_text(column: pyarrow.Array, index: int) -> str:
    return str(column[index].as_py().decode("utf-8", "surrogatepass"))


def _read_json(column: pyarrow.Array, index: int) -> Any:
    return json.loads(column[index].as_py())


def _read_turns(column: pyarrow.Array, index: int) -> Any:
    turns = _read_json(column, index)
    return None if turns is None else tuple(turns)


@dataclass(frozen=True)
class TokenColumn:
    """Arrow type of a field, and the functions that write many values and read one."""

    type: pyarrow.DataType
    write: Callable[[Sequence[Any]], pyarrow.Array]
    read: Callable[[Any, int], Any]


def _plain(kind: pyarrow.DataType) -> TokenColumn:
    return TokenColumn(
        kind,
        lambda values: pyarrow.array(values, type=kind),
        lambda column, index: column[index].as_py(),
    )


_TOKENS = TokenColumn(pyarrow.list_(pyarrow.int32()), _write_tokens, _read_list)
_MASK = TokenColumn(pyarrow.list_(pyarrow.bool_()), _write_masks, _read_list)
_ENDS = TokenColumn(
    pyarrow.list_(pyarrow.int32()), _write_tokens, lambda c, at: tuple(_read_list(c, at))
)
_TEXT = TokenColumn(pyarrow.binary(), _write_texts, _read_text)
_JSON = TokenColumn(pyarrow.utf8(), _write_json, _read_json)
_TURNS = TokenColumn(pyarrow.utf8(), _write_json, _read_turns)

TOKEN_COLUMNS: Mapping[type[Any], Mapping[str, TokenColumn]] = {
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
"""Columns of each kind of tokenized row, one a field."""


def row_schema(form: type[Any]) -> pyarrow.Schema:
    """Return the Arrow schema of a kind of tokenized row."""
    fields = [(name, column.type) for name, column in TOKEN_COLUMNS[form].items()]
    return pyarrow.schema([*fields, *((name, pyarrow.int32()) for name in SIZES)])
