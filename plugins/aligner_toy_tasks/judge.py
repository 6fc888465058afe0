"""Programmatic judge of answers to the toy tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from aligner import Completion, RewardFunction
from aligner_toy_tasks.answers import COURTESIES
from aligner_toy_tasks.questions import Question, parse_question


class ToyTasksJudge(RewardFunction):
    """Scores an answer to a question of the data source `toy_tasks`, from 0 to 1.

    The score is content * (1/2 + manners/4 + brevity/4), so that an answer with wrong words scores 0.
    Content is 1 for the right words in the right order, 1/2 for the right words in another order, else 0.
    Manners is 1 when the answer begins with a courtesy exactly if the question contains "please".
    Brevity is 1 when nothing follows the first sentence and the answer ended with a stop token.
    """

    name: ClassVar[str] = "toy_tasks"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """Return a number from 0 to 1 for each completion.

        Raises:
            DataError: A prompt contains no question of this plugin.
        """
        return [
            judge(parse_question(completion.prompt), completion.text, ended=completion.ended)
            for completion in completions
        ]


def judge(question: Question, text: str, *, ended: bool) -> float:
    """Score `text` as an answer to `question`, from 0 to 1."""
    courtesy = re.match(rf"\s*({'|'.join(map(re.escape, COURTESIES))})", text)
    answer = text[courtesy.end() :] if courtesy else text
    sentence, stop, rest = answer.partition(".")
    words = re.findall(r"\w+", sentence)
    lead = re.findall(r"\w+", question.kind.lead)
    if words[: len(lead)] == lead:
        words = words[len(lead) :]
    manners = bool(courtesy) == question.please
    brevity = bool(stop) and not rest.strip() and ended
    return _content_score(question, words) * (0.5 + 0.25 * manners + 0.25 * brevity)


def _content_score(question: Question, words: Sequence[str]) -> float:
    right = question.solution
    if tuple(words) == right:
        return 1.0
    return 0.5 if sorted(words) == sorted(right) else 0.0
