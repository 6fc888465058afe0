"""Reward function for the number of tokens of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from aligner import Completion, ExtensionOptions, RewardFunction


class LengthOptions(ExtensionOptions):
    """Range of lengths without a penalty."""

    minimum: int = Field(0, ge=0)
    """Shortest completion without a penalty, in tokens."""
    maximum: int = Field(..., gt=0)
    """Longest completion without a penalty, in tokens."""
    margin: int = Field(32, gt=0)
    """Tokens outside the range over which the reward falls from 0 to -1."""

    @model_validator(mode="after")
    def _check_order(self) -> LengthOptions:
        if self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        return self


class LengthReward(RewardFunction):
    """Return 0 for a length within the range, falling to -1 outside; longer is never better."""

    name = "length"
    Options: ClassVar[type[ExtensionOptions]] = LengthOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        options = self.options
        assert isinstance(options, LengthOptions)
        excess = [
            max(options.minimum - completion.tokens, completion.tokens - options.maximum, 0)
            for completion in completions
        ]
        return [-min(tokens / options.margin, 1.0) for tokens in excess]
