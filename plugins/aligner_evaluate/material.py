"""What a step measures on: the rows of each kind of data, as tokens, with the account of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aligner.data.context import DataContext, OptionContext
from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.prepare import (
    PreparedData,
    prepare_conversations,
    prepare_preferences,
    prepare_prompts,
    prepare_texts,
)
from aligner.data.options import DataOptions, DataSpecs
from aligner.data.reading.messages import MalformedRowError
from aligner.data.rows import Prompt
from aligner.data.store.lazy_rows import MappedRows
from aligner.data.store.token_rows import PromptTokens
from aligner.errors import AlignerError, DataError, ErrorGroup
from aligner_evaluate.stage import EvaluateOptions

if TYPE_CHECKING:
    pass

KINDS = ("conversations", "text", "pairs")
"""Options that name data other than prompts."""

_PREPARE: Mapping[str, Callable[[DataContext, DataOptions, Any], PreparedData[Any]]] = {
    "conversations": prepare_conversations,
    "text": prepare_texts,
    "pairs": prepare_preferences,
}


def prepared(
    step_options: EvaluateOptions, kind: str, context: DataContext, tokenizer: Any
) -> PreparedData[Any] | None:
    """The rows of `kind`, one of `KINDS`, as tokens; None where the step has no such data.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
    """
    specs: DataSpecs | None = getattr(step_options, kind)
    if specs is None:
        return None
    options = DataOptions(
        data=specs, max_length=step_options.max_length, limits=step_options.limits
    )
    under = OptionContext(context, kind)
    return _PREPARE[kind](under, options, tokenizer)


def prompts(
    step_options: EvaluateOptions, context: DataContext, tokenizer: Any
) -> tuple[PreparedData[PromptTokens], Sequence[Prompt]] | None:
    """The prompts as the policy's tokens, and as they are written, for other tokenizers.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
    """
    if step_options.prompts is None:
        return None
    options = DataOptions(
        data=step_options.prompts, max_length=step_options.max_length, limits=step_options.limits
    )
    ready = prepare_prompts(OptionContext(context, "prompts"), options, tokenizer)
    return ready, MappedRows(ready.train, _written)


def _written(one: PromptTokens) -> Prompt:
    return Prompt(messages=one.messages, tools=one.tools, row=one.row, origin=one.origin)


def encoded(rows: Sequence[Prompt], chat: ChatEncoder) -> list[list[int]]:
    """Token ids of prompts, up to where the answer begins.

    Raises:
        DataError: the chat template refuses some; each is named.
    """
    samples, errors = [], list[AlignerError]()
    for row in rows:
        try:
            samples.append(chat.prompt(row.messages, row.tools))
        except MalformedRowError as error:
            errors.append(DataError(error.what, where=row.origin, hint=error.hint))
    ErrorGroup.raise_if_any(errors)
    return [one.input_ids for one in chat.encode(samples)]


def reference_answer(row: Prompt) -> str | None:
    """What the row says the answer is, where it does."""
    answer = row.row.get("answer")
    return None if answer is None else str(answer)
