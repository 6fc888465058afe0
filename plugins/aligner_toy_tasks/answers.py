"""How the tasks are answered: well, or with the flaws that real data have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from aligner_toy_tasks.questions import NUMBERS, WORDS, Draw, Question

Flaw = Literal["wrong", "rude", "chatty"]
SLOPPY: dict[Flaw, float] = {"wrong": 0.15, "rude": 0.6, "chatty": 0.6}
"""How often an answer in a conversation has each flaw, independently."""
REJECTED: dict[Flaw, float] = {"wrong": 0.25, "rude": 0.4, "chatty": 0.4}
"""The same for a rejected answer, which has at least one."""
COURTESIES = ("Gladly!", "Of course!", "With pleasure!")
CHATTER = (
    "I like this game.",
    "I know a lot of words.",
    "My dog can do that too.",
    "What a good day!",
)


def answer(question: Question, flaws: Collection[Flaw], draw: Draw) -> str:
    """The answer to `question`: right, as polite as it was asked, short, but for `flaws`.

    `wrong` has wrong words or a wrong order; `rude` leaves out the courtesy that a "please"
    deserves, or gushes where there was none; `chatty` goes on when all is said.
    """
    words = _mistake(question, draw) if "wrong" in flaws else question.solution
    said = f"{question.kind.lead} {', '.join(words)}."
    courteous = question.please != ("rude" in flaws)
    parts = [draw.one(COURTESIES)] if courteous else []
    parts.append(said)
    if "chatty" in flaws:
        parts.append(said if draw.chance(0.2) else draw.one(CHATTER))
    return " ".join(parts)


def sloppiness(draw: Draw, rates: Mapping[Flaw, float] = SLOPPY) -> frozenset[Flaw]:
    """Flaws of one answer; it may have none."""
    return frozenset(flaw for flaw, rate in rates.items() if draw.chance(rate))


def _mistake(question: Question, draw: Draw) -> tuple[str, ...]:
    """Wrong words, as many as are right or one more or fewer, or the right ones mixed up."""
    right = question.solution
    if question.kind.answers:
        offered = question.operands[1:] or question.kind.answers
        return (draw.one([word for word in offered if word != right[0]]),)
    words = NUMBERS if question.kind.name == "count" else WORDS
    if len(set(right)) == 1:
        wrong = draw.one([right[:-1], (*right, right[0]), (*right[:-1], draw.one(words))])
    elif draw.chance(0.4):
        wrong = draw.some(right, len(right))
    elif draw.chance(0.4):
        wrong = draw.one([right[:-1], (*right, right[-1]), (*right, draw.one(words))])
    else:
        place = draw.one(range(len(right)))
        wrong = (*right[:place], draw.one(words), *right[place + 1 :])
    return _mistake(question, draw) if wrong == right else wrong
