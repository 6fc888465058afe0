"""A reward for answers that are short and end by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from aligner import Completion, ExtensionOptions, RewardFunction


class BrevityOptions(ExtensionOptions):
    words: int = Field(20, gt=0)
    """Answers of up to this many words score 1; each further one costs a share of it."""


class Brevity(RewardFunction):
    """Scores from 0 to 1: 1 up to `words` words, 0 from twice as many on, 0 for an unended answer."""

    name = "brevity"
    Options = BrevityOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [self._one(completion) for completion in completions]

    def _one(self, completion: Completion) -> float:
        over = len(completion.text.split()) - self.options.words
        return max(0.0, 1 - max(over, 0) / self.options.words) if completion.ended else 0.0
