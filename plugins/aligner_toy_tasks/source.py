"""Make the rows of every step of a chain: stories, conversations, preferences and prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from aligner.registry import DataSource, ExtensionOptions
from aligner_toy_tasks.answers import REJECTED, answer, sloppiness
from aligner_toy_tasks.questions import Draw, Question, ask, ask_again

NAMES = ("Mia", "Tom", "Ada", "Ben")
OPENINGS = (
    "One day {name} and {other} played a game of words.",
    "{name} (user) and {other} (assistant) played a game.",
    "{name} went to the garden with {other}.",
)
ENDINGS = ("Then they went home.", "It was a good day.")


MOST_PROMPTS = 1000
"""Of one seed, held out or not; more would be nearly all of one kind."""


class ToyTasksOptions(ExtensionOptions):
    """Options of the data source `tasks`."""

    part: Literal["stories", "conversations", "preferences", "prompts"]
    """`stories` to read, `conversations` with good and sloppy answers, `preferences` of a good
    answer over a sloppy one, or bare `prompts`."""
    rows: int = Field(gt=0)
    """How many rows to make."""
    seed: int = 0
    """Another seed makes other rows, with the same questions held out."""
    held_out: bool = False
    """Ask only the questions that no other part of the data asks or tells, whatever its seed."""
    follow_ups: float = Field(0.15, ge=0, le=1)
    """Share of rows in which a second question follows the first, where there is one."""

    @model_validator(mode="after")
    def _enough_prompts(self) -> ToyTasksOptions:
        if self.part == "prompts" and self.rows > MOST_PROMPTS:
            raise ValueError(
                f"there are not {self.rows} different prompts: ask for at most {MOST_PROMPTS}"
            )
        return self


class ToyTasks(DataSource):
    """Small tasks in plain words: say, count, sort, find, name."""

    name: ClassVar[str] = "tasks"
    Options: ClassVar[type[ExtensionOptions]] = ToyTasksOptions
    config: ToyTasksOptions

    def rows(self) -> Iterable[Mapping[str, Any]]:
        config = self.options
        draw = Draw(f"{config.part} {config.seed} {config.held_out}")
        if config.part == "prompts":
            yield from _prompts(config, draw)
            return
        make = {
            "stories": _story,
            "conversations": _conversation,
            "preferences": _preference,
        }[config.part]
        for _ in range(config.rows):
            yield make(config, draw)


def _story(options: ToyTasksOptions, draw: Draw) -> dict[str, Any]:
    """Two or three things told, or a question asked and answered in two lines each."""
    names = dict(zip(("name", "other"), draw.some(NAMES, 2), strict=True))
    parts = [draw.one(OPENINGS).format(**names)] if draw.chance(0.2) else []
    if draw.chance(0.5):
        question = _one_question(options, draw)
        said = answer(question, sloppiness(draw) - {"wrong"}, draw)
        parts.append(
            "{name}:\n{asked}\n{other}:\n{said}\n".format(**names, asked=question.text, said=said)
        )
        return {"text": "\n".join(parts)}
    parts += [_told(options, draw, **names) for _ in range(draw.one((2, 3)))]
    parts += [draw.one(ENDINGS)] if draw.chance(0.2) else []
    return {"text": " ".join(parts)}


def _told(options: ToyTasksOptions, draw: Draw, **names: str) -> str:
    question = ask(draw)
    while not question.kind.by_heart and question.held_out != options.held_out:
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
    """One question, or one and its follow-up, all held out or all not."""
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
    """Prompts that all ask something else, or the same in another way."""
    seen: set[tuple[Question, ...]] = set()
    while len(seen) < options.rows:
        questions = tuple(_questions(options, draw))
        if questions not in seen:
            seen.add(questions)
            *prompt, _ = _turns(questions, draw, sloppy=False)
            last = questions[-1]
            yield {"prompt": prompt, "task": last.kind.name, "answer": ", ".join(last.solution)}
