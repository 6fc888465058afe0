"""Reward function for the form of a completion: its start, its end, parts in order, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

from pydantic import model_validator

from aligner import Completion, ExtensionOptions, RewardFunction


class FormatOptions(ExtensionOptions):
    """Conditions for a well-formed completion; at least one."""

    starts_with: str | None = None
    """Text at the start of the completion, after any white space."""
    ends_with: str | None = None
    """Text at the end of the completion, before any white space."""
    contains: tuple[str, ...] = ()
    """Texts that the completion contains, in this order."""
    is_json: bool = False
    """Require that the whole completion is valid JSON."""

    @model_validator(mode="after")
    def _check_any(self) -> FormatOptions:
        if not (self.starts_with or self.ends_with or self.contains or self.is_json):
            raise ValueError("give at least one of starts_with, ends_with, contains and is_json")
        return self


class FormatReward(RewardFunction):
    """Return the share of the conditions that a completion meets, from 0 to 1."""

    name = "format"
    Options: ClassVar[type[ExtensionOptions]] = FormatOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [self._score_text(completion.text.strip()) for completion in completions]

    def _score_text(self, text: str) -> float:
        options = self.options
        assert isinstance(options, FormatOptions)
        met: list[bool] = []
        if options.starts_with:
            met.append(text.startswith(options.starts_with))
        if options.ends_with:
            met.append(text.endswith(options.ends_with))
        if options.contains:
            met.append(_contains_in_order(text, options.contains))
        if options.is_json:
            met.append(_is_json(text))
        return sum(met) / len(met)


def _contains_in_order(text: str, parts: Sequence[str]) -> bool:
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
