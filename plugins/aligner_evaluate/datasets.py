"""Evaluation data of a step, tokenized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aligner import AlignerError
from aligner.kit.declare import DataError, DataSpecs, ErrorGroup, RowKind
from aligner.kit.rows import MalformedRowError, Prompt
from aligner.kit.work import (
    ChatEncoder,
    DataContext,
    MappedRows,
    PreparedData,
    PromptTokens,
    prepare_rows,
)
from aligner_evaluate.options import EvaluateOptions

READS: Mapping[str, RowKind] = {
    "conversations": "conversation",
    "text": "text",
    "pairs": "preference",
    "prompts": "prompt",
}
"""Kind of rows of each option that names data."""


def read_rows(
    options: EvaluateOptions, option: str, context: DataContext, tokenizer: Any
) -> PreparedData[Any] | None:
    """Read and tokenize the rows of one option of `READS`; None if the step has no such data.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
    """
    specs: DataSpecs | None = getattr(options, option)
    if specs is None:
        return None
    return prepare_rows(
        READS[option],
        specs,
        tokenizer,
        context=context,
        option=option,
        max_length=options.max_length,
        limits=options.limits,
    )


def read_prompts(
    options: EvaluateOptions, context: DataContext, tokenizer: Any
) -> Sequence[Prompt]:
    """Read the prompts as messages, for models with other tokenizers; none if the step has no prompts.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
    """
    data = read_rows(options, "prompts", context, tokenizer)
    return () if data is None else MappedRows(data.train, _prompt)


def _prompt(row: PromptTokens) -> Prompt:
    return Prompt(messages=row.messages, tools=row.tools, row=row.row, origin=row.origin)


def encode_prompts(prompts: Sequence[Prompt], chat: ChatEncoder) -> list[list[int]]:
    """Tokenize prompts up to the start of the completion.

    Raises:
        DataError: the chat template refuses some; each is named.
    """
    samples, errors = [], list[AlignerError]()
    for prompt in prompts:
        try:
            samples.append(chat.prompt(prompt.messages, prompt.tools))
        except MalformedRowError as error:
            errors.append(DataError(error.what, where=prompt.origin, hint=error.hint))
    ErrorGroup.raise_if_any(errors)
    return [encoded.input_ids for encoded in chat.encode(samples)]


def reference_answer(prompt: Prompt) -> str | None:
    """Return the reference answer of the prompt's row, if it has one."""
    answer = prompt.row.get("answer")
    return None if answer is None else str(answer)
