"""What a step measures on: the rows of each kind of data, as tokens, with the account of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aligner.data.chat import Chat
from aligner.data.kept import Viewed
from aligner.data.messages import Malformed
from aligner.data.place import Place, Under
from aligner.data.prepare import (
    Prepared,
    PromptTokens,
    prepare_conversations,
    prepare_preferences,
    prepare_prompts,
    prepare_texts,
)
from aligner.data.rows import Prompt
from aligner.data.spec import DataOptions, DataSpecs
from aligner.errors import AlignerError, DataError, Faults
from aligner_evaluate.stage import EvaluateConfig

if TYPE_CHECKING:
    pass

KINDS = ("conversations", "text", "pairs")
"""Options that name data other than prompts."""

_PREPARE: Mapping[str, Callable[[Place, DataOptions, Any], Prepared[Any]]] = {
    "conversations": prepare_conversations,
    "text": prepare_texts,
    "pairs": prepare_preferences,
}


def prepared(
    config: EvaluateConfig, kind: str, place: Place, tokenizer: Any
) -> Prepared[Any] | None:
    """The rows of `kind`, one of `KINDS`, as tokens; None where the step has no such data.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
    """
    specs: DataSpecs | None = getattr(config, kind)
    if specs is None:
        return None
    options = DataOptions(data=specs, max_length=config.max_length, limits=config.limits)
    under = Under(place, kind)
    return _PREPARE[kind](under, options, tokenizer)


def prompts(
    config: EvaluateConfig, place: Place, tokenizer: Any
) -> tuple[Prepared[PromptTokens], Sequence[Prompt]] | None:
    """The prompts as the policy's tokens, and as they are written, for other tokenizers.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
    """
    if config.prompts is None:
        return None
    options = DataOptions(data=config.prompts, max_length=config.max_length, limits=config.limits)
    ready = prepare_prompts(Under(place, "prompts"), options, tokenizer)
    return ready, Viewed(ready.train, _written)


def _written(one: PromptTokens) -> Prompt:
    return Prompt(messages=one.messages, tools=one.tools, row=one.row, origin=one.origin)


def encoded(rows: Sequence[Prompt], chat: Chat) -> list[list[int]]:
    """Token ids of prompts, up to where the answer begins.

    Raises:
        DataError: the chat template refuses some; each is named.
    """
    samples, faults = [], list[AlignerError]()
    for row in rows:
        try:
            samples.append(chat.prompt(row.messages, row.tools))
        except Malformed as error:
            faults.append(DataError(error.what, where=row.origin, hint=error.hint))
    Faults.raise_if_any(faults)
    return [one.input_ids for one in chat.encode(samples)]


def reference_answer(row: Prompt) -> str | None:
    """What the row says the answer is, where it does."""
    answer = row.row.get("answer")
    return None if answer is None else str(answer)
