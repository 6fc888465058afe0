"""Sampling options of a chat, from the command line and from `/set`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from typing import Any

from aligner.chat.model import ChatModel
from aligner.chat.sampling_options import SAMPLING_OPTIONS
from aligner.errors import AlignerError, did_you_mean
from aligner.models.generate import Sampling


class ChatError(AlignerError):
    """A chat command or message that cannot be carried out."""


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """Sampling options of a chat; see `aligner.models.generate.Sampling`."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None
    """None means the model's default, see `ChatModel.default_tokens`."""
    seed: int = 0

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> ChatSettings:
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    def tokens_per_answer(self, model: ChatModel) -> int:
        """Return the largest number of tokens in an answer."""
        return model.default_tokens if self.max_new_tokens is None else self.max_new_tokens

    def sampling(self, model: ChatModel, *, max_new_tokens: int) -> Sampling:
        return Sampling(
            stop_tokens=model.stop_tokens,
            max_new_tokens=max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
        )

    def changed(self, name: str, text: str) -> ChatSettings:
        """Return the options with the value `text` for the option `name`.

        Raises:
            ChatError: The name is unknown, or the value is out of range.
        """
        name = name.replace("-", "_")
        if name not in SAMPLING_OPTIONS:
            raise ChatError(f"unknown option {name!r}", hint=did_you_mean(name, SAMPLING_OPTIONS))
        try:
            value: Any = SAMPLING_OPTIONS[name](text)
        except argparse.ArgumentTypeError as error:
            raise ChatError(f"{name}: {error}") from None
        return replace(self, **{name: value})

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
