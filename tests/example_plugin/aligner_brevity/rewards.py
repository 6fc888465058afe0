"""A reward for completions that are short and end by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from aligner import Completion, ExtensionOptions, RewardFunction


class BrevityOptions(ExtensionOptions):
    """Options of the brevity reward."""

    words: int = Field(20, gt=0)
    """Completions of up to this many words score 1; each further word costs a share of it."""


class Brevity(RewardFunction):
    """Score 1 for up to `words` words, 0 from twice as many on, and 0 for a truncated completion."""

    name = "brevity"
    Options = BrevityOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [self._score(completion) for completion in completions]

    def _score(self, completion: Completion) -> float:
        over = len(completion.text.split()) - self.options.words
        return max(0.0, 1 - max(over, 0) / self.options.words) if completion.ended else 0.0
