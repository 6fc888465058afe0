"""Turn rows of one kind into the kind a stage needs, where that loses nothing unsaid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from itertools import combinations
from typing import Any

from aligner.data.messages import Malformed
from aligner.data.rows import (
    Classified,
    Conversation,
    Labelled,
    Messages,
    Preference,
    Prompt,
    Ranking,
    Row,
    Scored,
    Text,
)
from aligner.registry import Message, RowKind


def said(messages: Messages) -> str:
    """What the turns say, one after the other, without roles."""
    return "\n\n".join(message["content"] for message in messages if message["content"])


def _asked(row: Any) -> Prompt:
    """The prompt of a row that has one, with what else is known of it."""
    others: dict[str, Any] = {}
    if isinstance(row, Preference):
        others = {"chosen": said(row.chosen), "rejected": said(row.rejected)}
    elif isinstance(row, Labelled | Scored):
        others = {"answer": said(row.completion)}
    return Prompt(messages=row.prompt, tools=row.tools, row=others, origin=row.origin)


def _conversation_to_prompt(row: Any) -> Prompt:
    answers = [i for i, message in enumerate(row.messages) if message["role"] == "assistant"]
    if not answers:
        return Prompt(messages=row.messages, tools=row.tools, origin=row.origin)
    if answers[-1] == 0:
        raise Malformed("the conversation begins with its only answer, so it has no prompt")
    asked, answer = row.messages[: answers[-1]], row.messages[answers[-1]]["content"]
    return Prompt(messages=asked, tools=row.tools, row={"answer": answer}, origin=row.origin)


def _chosen(row: Any) -> Conversation:
    messages = (*row.prompt, *row.chosen)
    return Conversation(messages=messages, tools=row.tools, origin=row.origin)


def _labels(row: Any) -> list[Labelled]:
    return [
        Labelled(
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


def _scores(row: Any) -> list[Scored]:
    return [
        Scored(prompt=row.prompt, completion=one, score=score, tools=row.tools, origin=row.origin)
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


def convertible(have: RowKind, want: RowKind) -> bool:
    return have == want or (have, want) in CONVERSIONS


def as_kind(row: Row, have: RowKind, want: RowKind) -> list[Row]:
    """`row` as rows of the kind wanted.

    Raises:
        Malformed: this row has no such form.
    """
    if have == want:
        return [row]
    made = CONVERSIONS[have, want](row)
    return [made] if isinstance(made, Row) else list(made)


def prompt_key(row: Row) -> str:
    """What two rows share when they ask the same: all turns before the first answer, but the system's.

    The rows of a whole chain agree on it, whatever their kinds, so that what one step holds out is
    not trained on by another.
    """
    if isinstance(row, Text):
        return row.text
    if isinstance(row, Classified):
        return json.dumps([row.text, row.pair])
    messages = row.messages if isinstance(row, Conversation | Prompt) else row.prompt  # type: ignore[attr-defined]
    asked = []
    for message in messages:
        role = message["role"]
        if role == "assistant":
            break
        if role != "system":
            asked.append(f"[{_quoted(role)}, {_quoted(message['content'])}]")
    # To the letter what `json.dumps` says, whose time is mostly its own.
    return f"[{', '.join(asked)}]"


def content_key(row: Row) -> bytes:
    """What two rows share when they are the same in all but where they are written.

    The SHA-256 of their fields as JSON with sorted keys.
    """
    parts = []
    for name, value in sorted(vars(row).items()):
        if name in _SAID:
            parts.append(f'"{name}": {_turns(value)}')
        elif name != "origin":
            parts.append(f'"{name}": {"null" if value is None else _canonical(value)}')
    return sha256(f"{{{', '.join(parts)}}}".encode()).digest()


_quoted: Callable[[str], str] = json.JSONEncoder(ensure_ascii=False).encode
_canonical: Callable[[Any], str] = json.JSONEncoder(sort_keys=True, default=str).encode
_SAID = {"messages", "prompt", "chosen", "rejected", "completion"}


def _turns(messages: Messages) -> str:
    """As `_canonical`, whose time is mostly its own where values are short."""
    return f"[{', '.join(_turn(message) for message in messages)}]"


def _turn(message: Message) -> str:
    if len(message) > 2:
        return _canonical(message)
    said, role = _canonical(message["content"]), _canonical(message["role"])
    return f'{{"content": {said}, "role": {role}}}'


def is_empty(messages: Messages) -> bool:
    """Whether an answer has a turn of the assistant's that says and calls nothing."""
    return any(
        message["role"] == "assistant"
        and not message["content"].strip()
        and not message.get("tool_calls")
        for message in messages
    )


__all__ = ["Ranking", "as_kind", "content_key", "convertible", "is_empty", "prompt_key", "said"]
