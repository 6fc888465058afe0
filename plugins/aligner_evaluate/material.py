"""What a step measures on: the rows of each kind of data, as tokens, with the account of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aligner.data.chat import Chat
from aligner.data.load import Place, load
from aligner.data.messages import Malformed
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
    from aligner.offers import Offers

KINDS = ("conversations", "text", "pairs")
"""Options that name data other than prompts."""

_PREPARE: Mapping[str, Callable[[Place, DataOptions, Any], Prepared[Any]]] = {
    "conversations": prepare_conversations,
    "text": prepare_texts,
    "pairs": prepare_preferences,
}


@dataclass(frozen=True)
class _Under:
    """A place where data is called by another option than `data`."""

    place: Place
    option: str

    @property
    def recipe_folder(self) -> Path:
        return self.place.recipe_folder

    @property
    def offers(self) -> Offers:
        return self.place.offers

    @property
    def scratch(self) -> dict[str, Any]:
        return self.place.scratch

    @property
    def seed(self) -> int:
        return self.place.seed

    def at(self, option: str) -> str:
        name, dot, rest = option.partition(".")
        return self.place.at(f"{self.option}{dot}{rest}" if name == "data" else option)


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
    under = _Under(place, kind)
    return _PREPARE[kind](under, options, tokenizer)


def prompts(
    config: EvaluateConfig, place: Place, tokenizer: Any
) -> tuple[Prepared[PromptTokens], tuple[Prompt, ...]] | None:
    """The prompts as the policy's tokens, and as they are written, for other tokenizers.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
    """
    if config.prompts is None:
        return None
    options = DataOptions(data=config.prompts, max_length=config.max_length, limits=config.limits)
    ready = prepare_prompts(_Under(place, "prompts"), options, tokenizer)
    loaded = load(config.prompts, want="prompt", place=_Under(place, "prompts"), option="data")
    written = {row.origin: row for row in loaded.rows}
    rows = (written[one.origin] for one in ready.train)
    return ready, tuple(row for row in rows if isinstance(row, Prompt))


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
