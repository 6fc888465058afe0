"""The model of a finished step with its tokenizer and chat template, ready to answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.data.rows import Messages, Tools
from aligner.errors import ModelError, error_location
from aligner.models.generate import GeneratedToken, Sampling, stream
from aligner.models.load import load_model, silence_transformers
from aligner.models.restore import base_model
from aligner.models.stop_tokens import add_model_stop_tokens
from aligner.run.selection import SelectedStep
from aligner.state import ModelCache

DEFAULT_TOKENS = 512
"""Tokens in an answer, unless the option is set or the model's context is short."""


@dataclass(frozen=True, kw_only=True)
class ChatPrompt:
    """A conversation as token ids that fit into the model's context."""

    input_ids: list[int]
    dropped_turns: int
    """Number of the oldest turns that did not fit."""
    max_new_tokens: int
    """Tokens that the answer may have."""


@dataclass(frozen=True, kw_only=True)
class ChatModel:
    """A model in eval mode with its chat template. Answering does not change it."""

    name: str
    """The step that trained the model."""
    model: Any = field(repr=False)
    chat: ChatEncoder = field(repr=False)
    context_length: int | None
    """Largest number of tokens of prompt and answer together; None without a limit."""

    @property
    def tokenizer(self) -> Any:
        return self.chat.tokenizer

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids of the tokens that end an answer."""
        return add_model_stop_tokens(base_model(self.model), self.chat.stops)

    @property
    def default_tokens(self) -> int:
        """Largest number of tokens in an answer if no option sets it."""
        length = self.context_length
        return DEFAULT_TOKENS if length is None else max(1, min(DEFAULT_TOKENS, length // 2))

    def encode(self, prompts: Sequence[tuple[Messages, Tools | None]]) -> list[list[int]]:
        """Return the token ids of prompts, with the generation prompt, exactly as in training.

        Raises:
            MalformedRowError: The template refuses them.
        """
        samples = [self.chat.prompt(messages, tools) for messages, tools in prompts]
        return [encoded.input_ids for encoded in self.chat.encode(samples)]

    def fit(self, messages: Messages, *, max_new_tokens: int) -> ChatPrompt:
        """Drop the oldest turns, but not the system turn, until an answer fits.

        An answer fits if `max_new_tokens` are free, or a quarter of the context length if that is
        less.

        Raises:
            MalformedRowError: The template refuses the turns.
            ModelError: The last turn alone is too long.
        """
        head = messages[:1] if messages[0]["role"] == "system" else ()
        turns = messages[len(head) :]
        dropped = 0
        while True:
            (ids,) = self.encode([((*head, *turns), None)])
            if self.context_length is None:
                free = max_new_tokens
                break
            free = self.context_length - len(ids)
            if free >= min(max_new_tokens, self.context_length // 4):
                break
            if len(turns) < 3 and free > 0:
                break
            if len(turns) < 3:
                raise ModelError(
                    f"the message has {len(ids)} tokens, and the model's context is "
                    f"{self.context_length}",
                    hint="write a shorter message",
                )
            turns, dropped = turns[2:], dropped + 2
        return ChatPrompt(
            input_ids=ids, dropped_turns=dropped, max_new_tokens=min(free, max_new_tokens)
        )

    def answer(
        self, ids: Sequence[int], *, sampling: Sampling, seed: int
    ) -> Iterator[GeneratedToken]:
        """Generate an answer token by token."""
        return stream(self.model, ids, sampling=sampling, seed=seed)


def load_chat_model(step: SelectedStep) -> ChatModel:
    """Load the policy of a step with the step's tokenizer.

    Raises:
        ChainError: The step has no policy or no tokenizer.
        ModelError: They cannot be loaded, or there is no chat template.
    """
    policy, tokenizer_artifact = step.artifact("policy"), step.artifact("tokenizer")
    with silence_transformers(), error_location(str(step.run.link_of(step.number, step.name))):
        tokenizer = load_tokenizer(tokenizer_artifact, ModelCache())
        if not tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer of step {step.name!r} has no chat template",
                hint="choose a later step, or add a `chat` step to the recipe",
            )
        chat = ChatEncoder(tokenizer)
        model = load_model(policy, ModelCache())
    return ChatModel(
        name=step.made_by("policy"),
        model=model,
        chat=chat,
        context_length=context_length(model),
    )


def context_length(model: Any) -> int | None:
    """Return the model's largest number of positions, if its config sets one."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None
