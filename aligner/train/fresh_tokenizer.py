"""A tokenizer trained on the documents of a step, for a model that starts from random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aligner.data.context import DataContext
from aligner.data.encoding.tokenizers import train_tokenizer
from aligner.data.options import DataOptions
from aligner.data.reading.load import RowStream
from aligner.data.rows import Text
from aligner.errors import ErrorCollector


def fresh_tokenizer(
    options: DataOptions, context: DataContext, *, vocab_size: int, max_length: int | None
) -> Any:
    """Train a tokenizer on the documents in `data`; once a process for the same documents.

    Args:
        vocab_size: Number of tokens, the 256 bytes and the special ones included.
        max_length: Longest sequence of the model.

    Raises:
        DataError: the documents cannot be read; all errors at once.
    """
    texts = RowStream(options.data, want="text", context=context, option="data")
    named = texts.known() or [spec.model_dump_json() for spec in options.data]
    key = f"fresh tokenizer {named} {vocab_size} {max_length}"
    if key not in context.memo:
        errors = ErrorCollector()
        tokenizer = train_tokenizer(_texts(texts, errors), vocab_size, max_length=max_length)
        errors.raise_if_any()
        context.memo[key] = tokenizer
    return context.memo[key]


def _texts(flow: RowStream, errors: ErrorCollector) -> Iterator[str]:
    """Yield the texts, and keep errors aside: they must not pass through the tokenizer's library."""
    with errors:
        for row in flow.rows():
            assert isinstance(row, Text), "the kind asked for"
            yield row.text
