"""Turn rows of one kind into the kind a stage needs, where that loses nothing unsaid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

from aligner.data.reading.messages import MalformedRowError
from aligner.data.rows import (
    Conversation,
    LabeledCompletion,
    Messages,
    Preference,
    Prompt,
    Row,
    ScoredCompletion,
)
from aligner.registry import RowKind


def join_contents(messages: Messages) -> str:
    """What the turns say, one after the other, without roles."""
    return "\n\n".join(message["content"] for message in messages if message["content"])


def _asked(row: Any) -> Prompt:
    """The prompt of a row that has one, with what else is known of it."""
    others: dict[str, Any] = {}
    if isinstance(row, Preference):
        others = {"chosen": join_contents(row.chosen), "rejected": join_contents(row.rejected)}
    elif isinstance(row, LabeledCompletion | ScoredCompletion):
        others = {"answer": join_contents(row.completion)}
    return Prompt(messages=row.prompt, tools=row.tools, row=others, origin=row.origin)


def _conversation_to_prompt(row: Any) -> Prompt:
    answers = [i for i, message in enumerate(row.messages) if message["role"] == "assistant"]
    if not answers:
        return Prompt(messages=row.messages, tools=row.tools, origin=row.origin)
    if answers[-1] == 0:
        raise MalformedRowError("the conversation begins with its only answer, so it has no prompt")
    asked, answer = row.messages[: answers[-1]], row.messages[answers[-1]]["content"]
    return Prompt(messages=asked, tools=row.tools, row={"answer": answer}, origin=row.origin)


def _chosen(row: Any) -> Conversation:
    messages = (*row.prompt, *row.chosen)
    return Conversation(messages=messages, tools=row.tools, origin=row.origin)


def _labels(row: Any) -> list[LabeledCompletion]:
    return [
        LabeledCompletion(
            prompt=row.prompt, completion=side, label=label, tools=row.tools, origin=row.origin
        )
        for side, label in ((row.chosen, True), (row.rejected, False))
    ]


def _pairs(row: Any) -> list[Preference]:
    """All pairs of answers of which one is scored higher."""
    pairs = []
    for one, other in combinations(range(len(row.scores)), 2):
        better, worse = (one, other) if row.scores[one] > row.scores[other] else (other, one)
        margin = row.scores[better] - row.scores[worse]
        if margin > 0:
            pairs.append(
                Preference(
                    prompt=row.prompt,
                    chosen=row.completions[better],
                    rejected=row.completions[worse],
                    margin=margin,
                    tools=row.tools,
                    origin=row.origin,
                )
            )
    return pairs


def _scores(row: Any) -> list[ScoredCompletion]:
    return [
        ScoredCompletion(
            prompt=row.prompt, completion=one, score=score, tools=row.tools, origin=row.origin
        )
        for one, score in zip(row.completions, row.scores, strict=True)
    ]


CONVERSIONS: Mapping[tuple[RowKind, RowKind], Callable[[Any], Row | Iterable[Row]]] = {
    ("conversation", "prompt"): _conversation_to_prompt,
    ("preference", "prompt"): _asked,
    ("ranking", "prompt"): _asked,
    ("label", "prompt"): _asked,
    ("score", "prompt"): _asked,
    ("preference", "conversation"): _chosen,
    ("preference", "label"): _labels,
    ("ranking", "preference"): _pairs,
    ("ranking", "score"): _scores,
}
"""What a row of the first kind gives when the second is needed."""


def is_convertible(have: RowKind, want: RowKind) -> bool:
    return have == want or (have, want) in CONVERSIONS


def convert_kind(row: Row, have: RowKind, want: RowKind) -> list[Row]:
    """`row` as rows of the kind wanted.

    Raises:
        Malformed: this row has no such form.
    """
    if have == want:
        return [row]
    made = CONVERSIONS[have, want](row)
    return [made] if isinstance(made, Row) else list(made)


def has_empty_answer(messages: Messages) -> bool:
    """Whether an answer has a turn of the assistant's that says and calls nothing."""
    return any(
        message["role"] == "assistant"
        and not message["content"].strip()
        and not message.get("tool_calls")
        for message in messages
    )
