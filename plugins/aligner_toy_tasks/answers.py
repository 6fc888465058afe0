"""Answers to the toy tasks: good ones, and ones with the flaws of real data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from aligner_toy_tasks.questions import NUMBERS, WORDS, Draw, Question

Flaw = Literal["wrong", "rude", "chatty"]
SLOPPY: dict[Flaw, float] = {"wrong": 0.15, "rude": 0.6, "chatty": 0.6}
"""Probability of each flaw in an answer of a conversation, independently."""
REJECTED: dict[Flaw, float] = {"wrong": 0.25, "rude": 0.4, "chatty": 0.4}
"""Probability of each flaw in a rejected answer, which has at least one flaw."""
COURTESIES = ("Gladly!", "Of course!", "With pleasure!")
CHATTER = (
    "I like this game.",
    "I know a lot of words.",
    "My dog can do that too.",
    "What a good day!",
)


def answer(question: Question, flaws: Collection[Flaw], draw: Draw) -> str:
    """Write an answer to `question` that is right, polite and short, apart from `flaws`.

    `wrong`: the words or their order are wrong. `rude`: a question with "please" gets no courtesy,
    or a question without it gets one. `chatty`: a second sentence follows the answer.
    """
    words = _mistake(question, draw) if "wrong" in flaws else question.solution
    sentence = f"{question.kind.lead} {', '.join(words)}."
    courteous = question.please != ("rude" in flaws)
    parts = [draw.choose(COURTESIES)] if courteous else []
    parts.append(sentence)
    if "chatty" in flaws:
        parts.append(sentence if draw.chance(0.2) else draw.choose(CHATTER))
    return " ".join(parts)


def sloppiness(draw: Draw, rates: Mapping[Flaw, float] = SLOPPY) -> frozenset[Flaw]:
    """Draw the flaws of an answer, possibly none."""
    return frozenset(flaw for flaw, rate in rates.items() if draw.chance(rate))


def _mistake(question: Question, draw: Draw) -> tuple[str, ...]:
    """Draw a wrong solution: other words, one word more or fewer, or another order."""
    right = question.solution
    if question.kind.answers:
        offered = question.operands[1:] or question.kind.answers
        return (draw.choose([word for word in offered if word != right[0]]),)
    words = NUMBERS if question.kind.name == "count" else WORDS
    if len(set(right)) == 1:
        wrong = draw.choose([right[:-1], (*right, right[0]), (*right[:-1], draw.choose(words))])
    elif draw.chance(0.4):
        wrong = draw.some(right, len(right))
    elif draw.chance(0.4):
        wrong = draw.choose([right[:-1], (*right, right[-1]), (*right, draw.choose(words))])
    else:
        place = draw.choose(range(len(right)))
        wrong = (*right[:place], draw.choose(words), *right[place + 1 :])
    return _mistake(question, draw) if wrong == right else wrong
