"""Data source of the toy tasks: stories, conversations, preference pairs and prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from aligner import DataSource, ExtensionOptions
from aligner_toy_tasks.answers import REJECTED, answer, sloppiness
from aligner_toy_tasks.questions import Draw, Question, ask, ask_again

NAMES = ("Mia", "Tom", "Ada", "Ben")
OPENINGS = (
    "One day {name} and {other} played a game of words.",
    "{name} (user) and {other} (assistant) played a game.",
    "{name} went to the garden with {other}.",
)
ENDINGS = ("Then they went home.", "It was a good day.")


MAX_PROMPTS = 1000
"""Largest number of prompts for one seed; more would be nearly all of one kind of task."""


class ToyTasksOptions(ExtensionOptions):
    """Options of the data source `toy_tasks`."""

    part: Literal["stories", "conversations", "preferences", "prompts"]
    """Kind of rows: `stories` are plain text, `conversations` have good and sloppy answers,
    `preferences` pair a good answer with a sloppy one, `prompts` have no answer."""
    rows: int = Field(gt=0)
    """Number of rows."""
    seed: int = 0
    """Random seed of the rows; the held-out questions are the same for every seed."""
    held_out: bool = False
    """Use only the held-out questions, which rows without this option never contain."""
    follow_ups: float = Field(0.15, ge=0, le=1)
    """Share of rows with a second, dependent question, for kinds of tasks that have one."""

    @model_validator(mode="after")
    def _enough_prompts(self) -> ToyTasksOptions:
        if self.part == "prompts" and self.rows > MAX_PROMPTS:
            raise ValueError(
                f"{self.rows} different prompts do not exist: set rows to at most {MAX_PROMPTS}"
            )
        return self


class ToyTasks(DataSource):
    """Small tasks in plain words: say, count, sort, find, name."""

    name: ClassVar[str] = "toy_tasks"
    Options: ClassVar[type[ExtensionOptions]] = ToyTasksOptions
    options: ToyTasksOptions

    def rows(self) -> Iterable[Mapping[str, Any]]:
        options = self.options
        draw = Draw(f"{options.part} {options.seed} {options.held_out}")
        if options.part == "prompts":
            yield from _prompts(options, draw)
            return
        make = {
            "stories": _story,
            "conversations": _conversation,
            "preferences": _preference,
        }[options.part]
        for _ in range(options.rows):
            yield make(options, draw)


def _story(options: ToyTasksOptions, draw: Draw) -> dict[str, Any]:
    """Make a text of two or three sentences, or of a question and its answer in two lines each."""
    names = dict(zip(("name", "other"), draw.some(NAMES, 2), strict=True))
    parts = [draw.choose(OPENINGS).format(**names)] if draw.chance(0.2) else []
    if draw.chance(0.5):
        question = _one_question(options, draw)
        text = answer(question, sloppiness(draw) - {"wrong"}, draw)
        parts.append(
            "{name}:\n{question}\n{other}:\n{answer}\n".format(
                **names, question=question.text, answer=text
            )
        )
        return {"text": "\n".join(parts)}
    parts += [_sentence(options, draw, **names) for _ in range(draw.choose((2, 3)))]
    parts += [draw.choose(ENDINGS)] if draw.chance(0.2) else []
    return {"text": " ".join(parts)}


def _sentence(options: ToyTasksOptions, draw: Draw, **names: str) -> str:
    question = ask(draw)
    while not question.kind.memorized and question.held_out != options.held_out:
        question = ask(draw)
    return question.kind.story.format(
        *question.operands, answer=", ".join(question.solution), **names
    )


def _one_question(options: ToyTasksOptions, draw: Draw) -> Question:
    question = ask(draw)
    while question.held_out != options.held_out:
        question = ask(draw)
    return question


def _questions(options: ToyTasksOptions, draw: Draw) -> list[Question]:
    """Draw a question, or a question and its follow-up, which are all held out or all not."""
    question = _one_question(options, draw)
    questions = [question]
    if draw.chance(options.follow_ups):
        again = ask_again(question, draw)
        if again and again.held_out == options.held_out:
            questions.append(again)
    return questions


def _turns(questions: Sequence[Question], draw: Draw, *, sloppy: bool) -> Iterator[dict[str, str]]:
    for question in questions:
        flaws = sloppiness(draw) if sloppy else frozenset()
        yield {"role": "user", "content": question.text}
        yield {"role": "assistant", "content": answer(question, flaws, draw)}


def _conversation(options: ToyTasksOptions, draw: Draw) -> dict[str, Any]:
    return {"messages": list(_turns(_questions(options, draw), draw, sloppy=True))}


def _preference(options: ToyTasksOptions, draw: Draw) -> dict[str, Any]:
    questions = _questions(options, draw)
    *prompt, best = _turns(questions, draw, sloppy=False)
    while not (flaws := sloppiness(draw, REJECTED)):
        pass
    worse = answer(questions[-1], flaws, draw)
    return {
        "prompt": prompt,
        "chosen": [best],
        "rejected": [{"role": "assistant", "content": worse}],
    }


def _prompts(options: ToyTasksOptions, draw: Draw) -> Iterator[dict[str, Any]]:
    """Make prompts that differ in their question or in its wording."""
    seen: set[tuple[Question, ...]] = set()
    while len(seen) < options.rows:
        questions = tuple(_questions(options, draw))
        if questions not in seen:
            seen.add(questions)
            *prompt, _ = _turns(questions, draw, sloppy=False)
            last = questions[-1]
            yield {"prompt": prompt, "task": last.kind.name, "answer": ", ".join(last.solution)}
