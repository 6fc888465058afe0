"""A finished step's model with its tokenizer and template, ready to answer conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.data.rows import Messages, Tools
from aligner.errors import ModelError
from aligner.models.clean import base_model
from aligner.models.generate import Sampling, Written, stream
from aligner.models.load import load_model, quiet
from aligner.models.stops import answer_ends
from aligner.run.chosen import ChosenStep
from aligner.state import ModelCache

MOST = 512
"""Tokens in an answer, where nobody says how many and the model takes twice as many."""


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """A conversation as the model can take it."""

    ids: list[int]
    left_out: int
    """How many of the oldest turns it had to lose."""
    room: int
    """Tokens that the answer may have."""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Who answers. The model is in eval mode and stays as it is."""

    name: str
    """The step that made the model."""
    model: Any = field(repr=False)
    chat: ChatEncoder = field(repr=False)
    context: int | None
    """Tokens that prompt and answer may have together; None where the model sets no limit."""

    @property
    def tokenizer(self) -> Any:
        return self.chat.tokenizer

    @property
    def stops(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        return answer_ends(base_model(self.model), self.chat.stops)

    @property
    def usual_tokens(self) -> int:
        """How many tokens an answer gets where nobody says."""
        return MOST if self.context is None else max(1, min(MOST, self.context // 2))

    def encode(self, prompts: Sequence[tuple[Messages, Tools | None]]) -> list[list[int]]:
        """The ids of turns that wait for an answer, just as they were in training.

        Raises:
            Malformed: The template refuses them.
        """
        samples = [self.chat.prompt(messages, tools) for messages, tools in prompts]
        return [one.input_ids for one in self.chat.encode(samples)]

    def fit(self, messages: Messages, *, max_new_tokens: int) -> Fitting:
        """Leave out the oldest turns, the system turn aside, until an answer has room.

        An answer has room when there is as much as it may have, or a quarter of all that the model
        takes where that is less.

        Raises:
            Malformed: The template refuses the turns.
            ModelError: The last turn alone is too long.
        """
        head = messages[:1] if messages[0]["role"] == "system" else ()
        rest = messages[len(head) :]
        left_out = 0
        while True:
            (ids,) = self.encode([((*head, *rest), None)])
            if self.context is None:
                return Fitting(ids=ids, left_out=left_out, room=max_new_tokens)
            room = self.context - len(ids)
            if room >= min(max_new_tokens, self.context // 4):
                return Fitting(ids=ids, left_out=left_out, room=min(room, max_new_tokens))
            if len(rest) < 3 and room > 0:
                return Fitting(ids=ids, left_out=left_out, room=min(room, max_new_tokens))
            if len(rest) < 3:
                raise ModelError(
                    f"that is {len(ids)} tokens, and the model takes {self.context}",
                    hint="say less at a time",
                )
            rest, left_out = rest[2:], left_out + 2

    def answer(self, ids: Sequence[int], *, sampling: Sampling, seed: int) -> Iterator[Written]:
        """Answer token by token."""
        return stream(self.model, ids, sampling=sampling, seed=seed)


def load_speaker(chosen: ChosenStep) -> Speaker:
    """Load the policy of `chosen`, with the tokenizer that the step knew.

    Raises:
        ChainError: The step left no policy or no tokenizer.
        ModelError: They cannot be loaded, or there is no chat template.
    """
    where = str(chosen.run.link_of(chosen.number, chosen.name))
    policy, words = chosen.artifact("policy"), chosen.artifact("tokenizer")
    with quiet():
        tokenizer = load_tokenizer(words, ModelCache(), where=where)
        if not tokenizer.chat_template:
            raise ModelError(
                f"step {chosen.name!r} left a tokenizer without a chat template",
                where=where,
                hint="take a later step, or give the recipe a step that sets a template",
            )
        chat = ChatEncoder(tokenizer, where=where)
        model = load_model(policy, ModelCache(), where=where)
    return Speaker(
        name=chosen.plugin_version("policy"), model=model, chat=chat, context=context_of(model)
    )


def context_of(model: Any) -> int | None:
    """How many tokens `model` takes, where its settings say."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None
