"""How the tasks are answered: well, or with the flaws that real data have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from aligner_tasks.questions import Draw, Question

Flaw = Literal["wrong", "rude", "chatty"]
RATES: dict[Flaw, float] = {"wrong": 0.15, "rude": 0.6, "chatty": 0.6}
"""How often a sloppy answer has each flaw, independently."""
COURTESIES = ("Gladly!", "Of course!", "With pleasure!")
CHATTER = (
    "I like this game.",
    "I know a lot of words.",
    "My dog can do that too.",
    "What a good day!",
)


def answer(question: Question, flaws: Collection[Flaw], draw: Draw) -> str:
    """The answer to `question`: right, as polite as it was asked, short, but for `flaws`.

    `wrong` words or order; `rude` leaves out the courtesy that a "please" deserves, or gushes where there
    was none; `chatty` goes on when all is said.
    """
    words = _mistake(question, draw) if "wrong" in flaws else question.solution
    said = f"{question.kind.lead} {', '.join(words)}."
    courteous = question.please != ("rude" in flaws)
    parts = [draw.one(COURTESIES)] if courteous else []
    parts.append(said)
    if "chatty" in flaws:
        parts.append(said if draw.chance(0.2) else draw.one(CHATTER))
    return " ".join(parts)


def sloppiness(draw: Draw) -> frozenset[Flaw]:
    """Flaws of one sloppy answer; it may have none."""
    return frozenset(flaw for flaw, rate in RATES.items() if draw.chance(rate))


def _mistake(question: Question, draw: Draw) -> tuple[str, ...]:
    right = question.solution
    if question.kind.answers:
        return (draw.one([word for word in question.kind.answers if word != right[0]]),)
    if len(set(right)) == 1:
        return right[:-1] if draw.chance(0.5) else (*right, right[0])
    while (mixed := draw.some(right, len(right))) == right:
        pass
    return mixed
