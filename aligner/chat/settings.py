"""How answers are drawn in a conversation, as the command line and `/set` give it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from typing import Any

from aligner.chat.numbers import SETTINGS
from aligner.chat.speaker import Speaker
from aligner.errors import AlignerError, did_you_mean
from aligner.models.generate import Sampling


class Refused(AlignerError):
    """What was typed cannot be done."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One value a setting; see `aligner.models.generate.Sampling`."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None
    """None leaves it to the model, see `Speaker.usual_tokens`."""
    seed: int = 0

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Settings:
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    def most(self, speaker: Speaker) -> int:
        """How many tokens an answer may have."""
        return speaker.usual_tokens if self.max_new_tokens is None else self.max_new_tokens

    def sampling(self, speaker: Speaker, *, room: int) -> Sampling:
        return Sampling(
            stop_tokens=speaker.stops,
            max_new_tokens=room,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
        )

    def changed(self, name: str, text: str) -> Settings:
        """With the setting `name` as `text` says.

        Raises:
            Refused: There is none of that name, or the value makes no sense.
        """
        name = name.replace("-", "_")
        if name not in SETTINGS:
            raise Refused(f"there is no setting {name!r}", hint=did_you_mean(name, SETTINGS))
        try:
            value: Any = SETTINGS[name](text)
        except argparse.ArgumentTypeError as error:
            raise Refused(f"{name}: {error}") from None
        return replace(self, **{name: value})

    def __str__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
