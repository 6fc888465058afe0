"""Convert rows of one kind to the kind that a stage needs, if nothing is lost silently."""

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
    """Join the contents of turns, without roles."""
    return "\n\n".join(message["content"] for message in messages if message["content"])


def _to_prompt(row: Any) -> Prompt:
    """Return the prompt of a row, with its answers as further columns."""
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


def _to_conversation(row: Any) -> Conversation:
    messages = (*row.prompt, *row.chosen)
    return Conversation(messages=messages, tools=row.tools, origin=row.origin)


def _to_labels(row: Any) -> list[LabeledCompletion]:
    return [
        LabeledCompletion(
            prompt=row.prompt, completion=side, label=label, tools=row.tools, origin=row.origin
        )
        for side, label in ((row.chosen, True), (row.rejected, False))
    ]


def _to_pairs(row: Any) -> list[Preference]:
    """Return all pairs of answers with different scores."""
    pairs = []
    for first, second in combinations(range(len(row.scores)), 2):
        better, worse = (
            (first, second) if row.scores[first] > row.scores[second] else (second, first)
        )
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


def _to_scores(row: Any) -> list[ScoredCompletion]:
    return [
        ScoredCompletion(
            prompt=row.prompt,
            completion=completion,
            score=score,
            tools=row.tools,
            origin=row.origin,
        )
        for completion, score in zip(row.completions, row.scores, strict=True)
    ]


CONVERSIONS: Mapping[tuple[RowKind, RowKind], Callable[[Any], Row | Iterable[Row]]] = {
    ("conversation", "prompt"): _conversation_to_prompt,
    ("preference", "prompt"): _to_prompt,
    ("ranking", "prompt"): _to_prompt,
    ("label", "prompt"): _to_prompt,
    ("score", "prompt"): _to_prompt,
    ("preference", "conversation"): _to_conversation,
    ("preference", "label"): _to_labels,
    ("ranking", "preference"): _to_pairs,
    ("ranking", "score"): _to_scores,
}
"""Functions that convert rows of the first kind to the second."""


def is_convertible(have: RowKind, want: RowKind) -> bool:
    return have == want or (have, want) in CONVERSIONS


def convert_kind(row: Row, have: RowKind, want: RowKind) -> list[Row]:
    """Return `row` as rows of the kind `want`.

    Raises:
        MalformedRowError: this row has no such form.
    """
    if have == want:
        return [row]
    made = CONVERSIONS[have, want](row)
    return [made] if isinstance(made, Row) else list(made)


def has_empty_answer(messages: Messages) -> bool:
    """Return True if an assistant turn has neither content nor tool calls."""
    return any(
        message["role"] == "assistant"
        and not message["content"].strip()
        and not message.get("tool_calls")
        for message in messages
    )
