"""Reward function that compares a completion with the reference answer of its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from aligner import Completion, ExtensionOptions, RewardFunction
from aligner.kit.declare import DataError


class ExactMatchOptions(ExtensionOptions):
    """Reference answer and how to compare with it."""

    column: str = "answer"
    """Column of the prompt's row that contains the reference answer."""
    ignore_case: bool = False
    """Compare without regard to case."""
    last_line: bool = False
    """Compare only the last line of the completion."""


class ExactMatchReward(RewardFunction):
    """Return 1 for a completion equal to the row's answer, outer white space aside; else 0."""

    name = "exact_match"
    Options: ClassVar[type[ExtensionOptions]] = ExactMatchOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number per completion.

        Raises:
            DataError: a row does not have the column.
        """
        return [self._score(completion) for completion in completions]

    def _score(self, completion: Completion) -> float:
        options = self.options
        assert isinstance(options, ExactMatchOptions)
        if options.column not in completion.row:
            raise DataError(
                f"reward function 'exact_match' needs column {options.column!r}, "
                "and a prompt's row does not have it",
                hint=f"the row has: {', '.join(sorted(completion.row)) or 'none'}",
            )
        answer = completion.text.strip()
        reference = str(completion.row[options.column]).strip()
        if options.last_line and answer:
            answer = answer.splitlines()[-1].strip()
        if options.ignore_case:
            answer, reference = answer.casefold(), reference.casefold()
        return float(answer == reference)
