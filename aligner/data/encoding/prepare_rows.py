"""Prepare the rows of any option of a step that names data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aligner.data.context import DataContext, OptionContext
from aligner.data.encoding.prepare import (
    PreparedData,
    prepare_conversations,
    prepare_labels,
    prepare_preferences,
    prepare_prompts,
    prepare_texts,
)
from aligner.data.options import DataOptions, DataSpecs, Limits
from aligner.registry import RowKind

PREPARE_BY_KIND: Mapping[RowKind, Callable[[DataContext, Any, Any], PreparedData[Any]]] = {
    "text": prepare_texts,
    "conversation": prepare_conversations,
    "preference": prepare_preferences,
    "label": prepare_labels,
    "prompt": prepare_prompts,
}
"""Function that loads, splits and tokenizes rows of each kind."""


def prepare_rows(
    reads: RowKind,
    specs: DataSpecs,
    tokenizer: Any,
    *,
    context: DataContext,
    option: str,
    max_length: int | None = None,
    limits: Limits | None = None,
) -> PreparedData[Any]:
    """Load and tokenize the rows that an option of a step names.

    Args:
        reads: Kind of the rows.
        specs: Value of the option.
        tokenizer: Tokenizer of the model that reads the rows.
        context: Context of the step.
        option: Name of the option, for error locations.
        max_length: Longest row in tokens.
        limits: Largest shares of each finding in the data.

    Raises:
        DataError: the data is missing, malformed, or beyond the limits.
        ModelError: the tokenizer has no usable chat template.
    """
    options = DataOptions(data=specs, max_length=max_length, limits=limits or Limits())
    return PREPARE_BY_KIND[reads](OptionContext(context, option), options, tokenizer)
