"""Questions of the toy tasks: drawn at random, written as text, parsed from text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from aligner.kit.declare import DataError
from aligner.kit.rows import Message

T = TypeVar("T")

GROUPS: dict[str, tuple[str, ...]] = {
    "animal": ("ant", "bear", "cat", "dog", "fox", "hen", "owl", "pig"),
    "fruit": ("apple", "cherry", "fig", "lemon", "melon", "plum"),
    "tool": ("axe", "hammer", "nail", "rope", "saw", "spade"),
}
WORDS = tuple(word for group in GROUPS.values() for word in group)
COLOURS = {
    "lemon": "yellow",
    "cherry": "red",
    "plum": "purple",
    "fig": "purple",
    "carrot": "orange",
    "frog": "green",
    "crow": "black",
    "swan": "white",
    "mouse": "grey",
    "rose": "red",
    "leaf": "green",
    "bear": "brown",
}
_PAIRS = ("hot cold", "big small", "up down", "fast slow", "old new", "wet dry", "full empty")
OPPOSITES = dict(pair.split() for pair in _PAIRS) | dict(pair.split()[::-1] for pair in _PAIRS)
TIMES = {"two": 2, "three": 3, "four": 4}
NUMBERS = tuple(str(number) for number in range(1, 13))
FOLLOW_UP = -1
BACKWARDS = "Now backwards."


class Draw:
    """Random choices that are equal on every machine and Python version, as all use `random()`."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def choose(self, items: Sequence[T]) -> T:
        return items[int(self._random.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> tuple[T, ...]:
        """Draw `count` different items in random order."""
        left = list(items)
        return tuple(left.pop(int(self._random.random() * len(left))) for _ in range(count))


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """Kind of task. The placeholders `{0}`, `{1}`, … in its texts are the operands."""

    name: str
    wordings: tuple[str, ...]
    story: str
    """Sentence of a story; the placeholder `{answer}` is the solution."""
    lead: str
    """Beginning of a good answer."""
    known: tuple[tuple[str, ...], ...]
    """Values of each operand."""
    draw: Callable[[Draw], tuple[str, ...]]
    """Draws the operands of a new question."""
    solve: Callable[[Sequence[str]], tuple[str, ...]]
    """Returns the right words in the right order."""
    memorized: bool = False
    """True if there are so few questions that a model memorizes the answers."""
    follow_up: str | None = None
    """Follow-up question about another operand, or `BACKWARDS` for the same words in reverse."""
    answers: tuple[str, ...] = ()
    """All possible answers of a question about a fact."""


def _count(operands: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(number) for number in range(int(operands[0]), int(operands[1]) + 1))


def _numbers(draw: Draw) -> tuple[str, ...]:
    distance = draw.choose((2, 3, 4))
    first = draw.choose(range(len(NUMBERS) - distance))
    return NUMBERS[first], NUMBERS[first + distance]


def _one_of_a_group(draw: Draw) -> tuple[str, ...]:
    groups = draw.some(tuple(GROUPS), 3)
    return groups[0], *draw.some([draw.choose(GROUPS[group]) for group in groups], 3)


def _member(operands: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in operands[1:] if word in GROUPS[operands[0]])


def _two(draw: Draw) -> tuple[str, ...]:
    return draw.some(WORDS, 2)


KINDS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        TaskKind(
            name="repeat",
            wordings=("Say {0} {1} times.", "Repeat the word {0} {1} times."),
            story="{name} said {0} {1} times: {answer}.",
            lead="Here you go:",
            known=(WORDS, tuple(TIMES)),
            draw=lambda draw: (draw.choose(WORDS), draw.choose(tuple(TIMES))),
            solve=lambda operands: (operands[0],) * TIMES[operands[1]],
        ),
        TaskKind(
            name="count",
            wordings=("Count from {0} to {1}.", "Say the numbers from {0} to {1}."),
            story="{name} counted from {0} to {1}: {answer}.",
            lead="Here you go:",
            known=(NUMBERS, NUMBERS),
            draw=_numbers,
            solve=_count,
            memorized=True,
            follow_up=BACKWARDS,
        ),
        TaskKind(
            name="reverse",
            wordings=("Say {0} and {1} backwards.", "Turn around {0} and {1}."),
            story="{name} said {0} and {1} backwards: {answer}.",
            lead="Here you go:",
            known=(WORDS, WORDS),
            draw=_two,
            solve=lambda operands: tuple(reversed(operands)),
        ),
        TaskKind(
            name="sort",
            wordings=("Put {0} and {1} in alphabetical order.", "Sort {0} and {1}."),
            story="{name} put {0} and {1} in alphabetical order: {answer}.",
            lead="Here you go:",
            known=(WORDS, WORDS),
            draw=_two,
            solve=lambda operands: tuple(sorted(operands)),
            memorized=True,
            follow_up=BACKWARDS,
        ),
        TaskKind(
            name="find",
            wordings=("Find the {0}: {1}, {2}, {3}.", "Which is the {0}: {1}, {2}, {3}?"),
            story="{name} looked for the {0} among {1}, {2}, {3}: it is the {answer}.",
            lead="It is the",
            known=(tuple(GROUPS), WORDS, WORDS, WORDS),
            draw=_one_of_a_group,
            solve=_member,
            answers=WORDS,
        ),
        TaskKind(
            name="colour",
            wordings=("What colour is a {0}?", "Name the colour of a {0}."),
            story="{name} saw a {0}: it is {answer}.",
            lead="It is",
            known=(tuple(COLOURS),),
            draw=lambda draw: (draw.choose(tuple(COLOURS)),),
            solve=lambda operands: (COLOURS[operands[0]],),
            memorized=True,
            follow_up="And a {0}?",
            answers=tuple(dict.fromkeys(COLOURS.values())),
        ),
        TaskKind(
            name="opposite",
            wordings=("What is the opposite of {0}?", "Name the opposite of {0}."),
            story="The opposite of {0} is {answer}.",
            lead="It is",
            known=(tuple(OPPOSITES),),
            draw=lambda draw: (draw.choose(tuple(OPPOSITES)),),
            solve=lambda operands: (OPPOSITES[operands[0]],),
            memorized=True,
            follow_up="And of {0}?",
            answers=tuple(OPPOSITES),
        ),
        TaskKind(
            name="letter",
            wordings=("Which letter does {0} begin with?", "What is the first letter of {0}?"),
            story="The first letter of {0} is {answer}.",
            lead="It is",
            known=(WORDS,),
            draw=lambda draw: (draw.choose(WORDS),),
            solve=lambda operands: (operands[0][0],),
            memorized=True,
            follow_up="And {0}?",
            answers=tuple(dict.fromkeys(word[0] for word in WORDS)),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """User turn: a kind of task with its operands, wording and politeness."""

    kind: TaskKind
    operands: tuple[str, ...]
    wording: int = 0
    """Index into `kind.wordings`, or FOLLOW_UP."""
    please: bool = False

    @property
    def text(self) -> str:
        text = _wording(self.kind, self.wording).format(*self.operands)
        return f"{text[:-1]}, please{text[-1]}" if self.please else text

    @property
    def solution(self) -> tuple[str, ...]:
        right = self.kind.solve(self.operands)
        turned = self.wording == FOLLOW_UP and self.kind.follow_up == BACKWARDS
        return right[::-1] if turned else right

    @property
    def held_out(self) -> bool:
        """True for about one question in five, chosen by a hash, which only evaluation uses.

        A question whose answer can be derived is held out in all its wordings at once. A fact cannot
        be derived, so it is held out in one wording and may be trained in another.
        """
        by_wording = self.kind.memorized or self.wording == FOLLOW_UP
        wording = f" {self.wording}" if by_wording else ""
        key = f"{self.kind.name} {' '.join(self.operands)}{wording}"
        return sha256(key.encode()).digest()[0] % 5 == 0


def ask(draw: Draw) -> Question:
    """Draw a first question of any kind."""
    kind = draw.choose(tuple(KINDS.values()))
    wording = draw.choose(range(len(kind.wordings)))
    return Question(kind=kind, operands=kind.draw(draw), wording=wording, please=draw.chance(0.5))


def ask_again(question: Question, draw: Draw) -> Question | None:
    """Draw a follow-up to `question`; None if its kind has none."""
    kind = question.kind
    if kind.follow_up is None:
        return None
    operands = question.operands
    while kind.follow_up != BACKWARDS and operands == question.operands:
        operands = kind.draw(draw)
    return Question(kind=kind, operands=operands, wording=FOLLOW_UP, please=draw.chance(0.5))


def parse_question(prompt: Sequence[Message]) -> Question:
    """Parse the question in the last user turn of `prompt`.

    Raises:
        DataError: A user turn contains no question of this plugin.
    """
    question: Question | None = None
    for message in prompt:
        if message["role"] == "user":
            found = _parse_turn(str(message["content"]).strip(), question)
            if found is None:
                raise DataError(
                    f"not a question of the toy tasks: {message['content']!r}",
                    hint="use this judge only on prompts from the data source 'toy_tasks'",
                )
            question = found
    if question is None:
        raise DataError(
            "the prompt has no user turn",
            hint="add a user turn with a question",
        )
    return question


def _parse_turn(text: str, before: Question | None) -> Question | None:
    please = text[:-1].endswith(", please")
    bare = text[:-9] + text[-1] if please else text
    wordings = [(kind, place) for kind in KINDS.values() for place in range(len(kind.wordings))]
    if before and _has_follow_up(before):
        wordings.insert(0, (before.kind, FOLLOW_UP))
    for kind, place in wordings:
        match = re.fullmatch(_pattern(_wording(kind, place)), bare)
        if match:
            operands = match.groups() or (before.operands if before else ())
            if _answerable(kind, operands):
                return Question(kind=kind, operands=operands, wording=place, please=please)
    return None


def _has_follow_up(question: Question) -> bool:
    """True if a follow-up is possible; words that were reversed once are not reversed again."""
    kind = question.kind
    return kind.follow_up is not None and (
        kind.follow_up != BACKWARDS or question.wording != FOLLOW_UP
    )


def _wording(kind: TaskKind, place: int) -> str:
    if place != FOLLOW_UP:
        return kind.wordings[place]
    assert kind.follow_up is not None, f"nothing follows a question of kind {kind.name!r}"
    return kind.follow_up


def _pattern(wording: str) -> str:
    return re.sub(r"\\\{\d\\\}", r"(\\w+)", re.escape(wording))


def _answerable(kind: TaskKind, operands: Sequence[str]) -> bool:
    """True if the operands are known and the question has an answer, and for facts just one."""
    if not all(word in known for word, known in zip(operands, kind.known, strict=True)):
        return False
    solution = kind.solve(operands)
    return len(solution) == 1 if kind.answers else bool(solution)
