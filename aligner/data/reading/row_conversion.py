"""Convert rows of the public formats to the row types of aligner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aligner.data.describe import describe_value
from aligner.data.reading import messages
from aligner.data.reading.messages import (
    MalformedRowError,
    read_answer,
    read_nonempty_text,
    read_prompt,
    read_text,
    read_tools,
    read_turns,
)
from aligner.data.rows import (
    ClassifiedText,
    Conversation,
    LabeledCompletion,
    Messages,
    Preference,
    Prompt,
    Ranking,
    Row,
    ScoredCompletion,
    Tools,
)

Raw = Mapping[str, Any]
TOOLS = "tools"
Convert = Callable[[Raw], Row | list[Row]]
Parts = Callable[[Raw], tuple[Messages, Messages]]


def _with_system(row: Raw, messages: Messages) -> Messages:
    system = row.get("system")
    if system is None or system == "" or (messages and messages[0]["role"] == "system"):
        return messages
    return ({"role": "system", "content": read_text(system, "system")}, *messages)


def conversation(column: str) -> Convert:
    def convert(row: Raw) -> Row:
        messages = _with_system(row, read_turns(row[column], column))
        return Conversation(messages=messages, tools=read_tools(row.get(TOOLS), TOOLS))

    return convert


def _read_prompt_turns(row: Raw) -> Messages:
    return _with_system(row, read_prompt(row["prompt"], "prompt"))


def prompt_completion(row: Raw) -> Row:
    asked, answer = _read_prompt_turns(row), read_answer(row["completion"], "completion")
    return Conversation(messages=(*asked, *answer), tools=read_tools(row.get(TOOLS), TOOLS))


def question_answer(row: Raw) -> Row:
    asked = read_prompt(row["question"], "question")
    return Conversation(messages=(*asked, *read_answer(row["answer"], "answer")))


def _instruction(row: Raw, given: Any) -> Messages:
    """Return the user turn: the instruction, and the input below it."""
    asked = read_nonempty_text(row["instruction"], "instruction")
    about = "" if given is None else read_text(given, "input")
    return ({"role": "user", "content": f"{asked}\n{about}" if about.strip() else asked},)


def alpaca(row: Raw) -> Row:
    past: list[dict[str, Any]] = []
    for index, pair in enumerate(row.get("history") or ()):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise MalformedRowError(f"field 'history[{index}]' should be a question and its answer")
        question, answer = (read_text(text, f"history[{index}]") for text in pair)
        past += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    last = (*_instruction(row, row.get("input")), *read_answer(row["output"], "output"))
    return Conversation(messages=_with_system(row, (*past, *last)))


def instances(row: Raw) -> list[Row]:
    cases = row["instances"]
    if not isinstance(cases, list | tuple) or not cases:
        raise MalformedRowError(
            f"field 'instances' should be a list of cases, not {describe_value(cases)}"
        )
    converted: list[Row] = []
    for index, case in enumerate(cases):
        if not isinstance(case, Mapping) or "output" not in case:
            raise MalformedRowError(
                f"field 'instances[{index}]' should have an output, not {describe_value(case)}"
            )
        answer = read_answer(case["output"], f"instances[{index}].output")
        converted.append(Conversation(messages=(*_instruction(row, case.get("input")), *answer)))
    return converted


def prompt(row: Raw) -> Row:
    others = {name: value for name, value in row.items() if name not in ("prompt", TOOLS, "system")}
    return Prompt(
        messages=_read_prompt_turns(row), tools=read_tools(row.get(TOOLS), TOOLS), row=others
    )


def margin(row: Raw) -> float | None:
    """Return the margin of the chosen answer, from `margin` or from two scores."""
    if row.get("margin") is not None:
        return number(row["margin"], "margin")
    rated = row if "score_chosen" in row else row.get("metadata")
    if not isinstance(rated, Mapping):
        return None
    scores = [rated.get("score_chosen"), rated.get("score_rejected")]
    if any(score is None for score in scores):
        return None
    return number(scores[0], "score_chosen") - number(scores[1], "score_rejected")


def number(value: Any, field: str) -> float:
    try:
        converted = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        converted = float("nan")
    if converted != converted or abs(converted) == float("inf"):
        raise MalformedRowError(f"field '{field}' should be a number, not {describe_value(value)}")
    return converted


def preference(row: Raw) -> Row:
    """Convert a prompt with two answers, or with two conversations that begin with it."""
    prompt = _read_prompt_turns(row)
    sides = [read_answer(row[side], side) for side in ("chosen", "rejected")]
    if all(side[0]["role"] != "assistant" for side in sides):
        if all(side[: len(prompt)] == prompt for side in sides):
            sides = [side[len(prompt) :] for side in sides]
        elif not isinstance(row["prompt"], list | tuple | Mapping):
            return _shared_start(row, sides[0], sides[1])
    return _pair(row, prompt, sides[0], sides[1])


def _pair(row: Raw, prompt: Messages, chosen: Messages, rejected: Messages) -> Row:
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side or side[0]["role"] != "assistant":
            what = f"the {side[0]['role']}'s turn" if side else "nothing"
            raise MalformedRowError(f"field '{name}' should be the assistant's answer, not {what}")
    described = read_tools(row.get(TOOLS), TOOLS)
    return Preference(
        prompt=prompt, chosen=chosen, rejected=rejected, margin=margin(row), tools=described
    )


def _shared_start(row: Raw, chosen: Messages, rejected: Messages) -> Row:
    """Convert two conversations that differ in their last answers only."""
    prompt, other = chosen[:-1], rejected[:-1]
    if prompt != other:
        raise DifferentPromptsError("the prompts of chosen and rejected differ")
    return _pair(row, _with_system(row, prompt), chosen[-1:], rejected[-1:])


class DifferentPromptsError(MalformedRowError):
    """Two conversations do not share the prompt that would make them a pair."""


def implicit(row: Raw) -> Row:
    sides = [read_turns(row[side], side) for side in ("chosen", "rejected")]
    return _shared_start(row, sides[0], sides[1])


def implicit_text(row: Raw) -> Row:
    """Convert two texts: the prompt is the beginning that they share, up to a whole word."""
    chosen, rejected = (read_text(row[side], side) for side in ("chosen", "rejected"))
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    while same > 0 and not chosen[same - 1].isspace():
        same -= 1
    if not chosen[:same].strip():
        raise DifferentPromptsError(
            "chosen and rejected share no beginning that could be their prompt"
        )
    sides = [({"role": "assistant", "content": side[same:]},) for side in (chosen, rejected)]
    return _pair(row, ({"role": "user", "content": chosen[:same].rstrip()},), sides[0], sides[1])


def transcripts(row: Raw) -> Row:
    return _shared_start(
        row, *(messages.read_transcript(row[side], side) for side in ("chosen", "rejected"))
    )


def transcript(row: Raw) -> Row:
    return Conversation(messages=messages.read_transcript(row["text"], "text"))


def two_lists(row: Raw) -> Row:
    sides = [read_turns(row[name], name) for name in ("chosen_messages", "rejected_messages")]
    return _shared_start(row, sides[0], sides[1])


def sharegpt_pair(row: Raw) -> Row:
    prompt = _with_system(row, read_turns(row["conversations"], "conversations"))
    return _pair(
        row,
        prompt,
        read_answer(row["chosen"], "chosen"),
        read_answer(row["rejected"], "rejected"),
    )


def _make_ranking(
    prompt: Messages, answers: Sequence[Any], scores: Sequence[float], tools: Tools | None = None
) -> Row:
    sides = tuple(read_answer(answer, f"completions[{i}]") for i, answer in enumerate(answers))
    if len(sides) != len(scores) or not sides:
        raise MalformedRowError(f"{len(sides)} completions have {len(scores)} scores")
    return Ranking(prompt=prompt, completions=sides, scores=tuple(scores), tools=tools)


def ranking(row: Raw) -> Row:
    answers, by_rank = row["completions"], "ranks" in row
    marks = row["ranks"] if by_rank else row["scores"]
    if not isinstance(answers, list | tuple) or not isinstance(marks, list | tuple):
        raise MalformedRowError("fields 'completions' and 'scores' (or 'ranks') should be lists")
    numbers = [number(mark, "ranks" if by_rank else "scores") for mark in marks]
    scores = [-n for n in numbers] if by_rank else numbers
    return _make_ranking(
        _read_prompt_turns(row), answers, scores, read_tools(row.get(TOOLS), TOOLS)
    )


def ultrafeedback(row: Raw) -> Row:
    cases = row["completions"]
    if not isinstance(cases, list | tuple) or not all(isinstance(c, Mapping) for c in cases):
        raise MalformedRowError(
            f"field 'completions' should be a list of objects, not {describe_value(cases)}"
        )
    answers = [case.get("response") for case in cases]
    scores = [number(case.get("overall_score"), "completions.overall_score") for case in cases]
    return _make_ranking(_instruction(row, None), answers, scores)


def last_answer(column: str) -> Parts:
    def part(row: Raw) -> tuple[Messages, Messages]:
        messages = _with_system(row, read_turns(row[column], column))
        if messages[-1]["role"] != "assistant" or len(messages) < 2:
            raise MalformedRowError(
                f"field '{column}' should end with the assistant's answer to something"
            )
        return messages[:-1], messages[-1:]

    return part


def prompt_and_completion(row: Raw) -> tuple[Messages, Messages]:
    return _read_prompt_turns(row), read_answer(row["completion"], "completion")


def verdict(value: Any) -> bool | None:
    """Return a label as a boolean, however it is written; None if it is not a label."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


def label_conversion(part: Parts) -> Convert:
    def convert(row: Raw) -> Row:
        label = verdict(row["label"])
        if label is None:
            raise MalformedRowError(
                f"field 'label' should be true or false, not {describe_value(row['label'])}"
            )
        prompt, completion = part(row)
        described = read_tools(row.get(TOOLS), TOOLS)
        return LabeledCompletion(prompt=prompt, completion=completion, label=label, tools=described)

    return convert


def score_conversion(part: Parts) -> Convert:
    def convert(row: Raw) -> Row:
        prompt, completion = part(row)
        score = number(row["score"], "score")
        return ScoredCompletion(prompt=prompt, completion=completion, score=score)

    return convert


def class_conversion(first: str, second: str | None = None) -> Convert:
    def convert(row: Raw) -> Row:
        label = row["label"]
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if not isinstance(label, str | int) or str(label).strip() == "":
            raise MalformedRowError(
                f"field 'label' should be the name of a class, not {describe_value(label)}"
            )
        pair = read_nonempty_text(row[second], second) if second else None
        return ClassifiedText(
            text=read_nonempty_text(row[first], first), pair=pair, label=str(label)
        )

    return convert
