"""Judge answers to the tasks by program, from the prompt alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from aligner.registry import Completion, RewardFunction
from aligner_toy_tasks.answers import COURTESIES
from aligner_toy_tasks.questions import Question, read


class ToyTasksJudge(RewardFunction):
    """Scores an answer to a question of the data source `tasks`, from 0 to 1.

    The score is content times (1/2 + manners/4 + brevity/4): nothing counts without right words.
    Content is 1 for the right words in the right order, 1/2 for them in another order, else 0.
    Manners is 1 when the answer opens with a courtesy if and only if the question said "please".
    Brevity is 1 when nothing follows the first sentence and the answer ended by itself.
    """

    name: ClassVar[str] = "tasks"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """One number from 0 to 1 a completion.

        Raises:
            DataError: A prompt asks nothing that this plugin asks.
        """
        return [
            judge(read(completion.prompt), completion.text, ended=completion.ended)
            for completion in completions
        ]


def judge(question: Question, text: str, *, ended: bool) -> float:
    """How good `text` is as an answer to `question`, from 0 to 1."""
    courtesy = re.match(rf"\s*({'|'.join(map(re.escape, COURTESIES))})", text)
    said = text[courtesy.end() :] if courtesy else text
    sentence, stop, rest = said.partition(".")
    words = re.findall(r"\w+", sentence)
    lead = re.findall(r"\w+", question.kind.lead)
    if words[: len(lead)] == lead:
        words = words[len(lead) :]
    manners = bool(courtesy) == question.please
    brevity = bool(stop) and not rest.strip() and ended
    return _content(question, words) * (0.5 + 0.25 * manners + 0.25 * brevity)


def _content(question: Question, words: Sequence[str]) -> float:
    right = question.solution
    if tuple(words) == right:
        return 1.0
    return 0.5 if sorted(words) == sorted(right) else 0.0
