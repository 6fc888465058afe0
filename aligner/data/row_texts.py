"""The texts of a row, whatever its kind: read by side, or all changed alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from aligner.data.rows import ClassifiedText, Conversation, Messages, Prompt, Ranking, Row, Text

R = TypeVar("R", bound=Row)
Change = Callable[[str], str]


def turns_of(row: Row) -> Iterator[tuple[str, Messages]]:
    """The turns of a row in order, by where they stand: `prompt`, `messages`, `chosen`, …"""
    for name in ("messages", "prompt", "chosen", "rejected", "completion"):
        if (messages := getattr(row, name, None)) is not None:
            yield name, messages
    if isinstance(row, Ranking):
        for index, messages in enumerate(row.completions):
            yield f"completions[{index}]", messages


def texts_of(row: Row) -> Iterator[tuple[str, str, str]]:
    """Every text of a row as (where it stands, role, text); a document's and a class's role is `text`."""
    if isinstance(row, Text | ClassifiedText):
        yield "text", "text", row.text
        if isinstance(row, ClassifiedText) and row.pair is not None:
            yield "pair", "text", row.pair
    for name, messages in turns_of(row):
        for message in messages:
            yield name, message["role"], message["content"]


def full_text(row: Row) -> str:
    """All that a row says, texts parted by blank lines."""
    return "\n\n".join(text for _, _, text in texts_of(row) if text)


def answers_of(row: Row) -> list[str]:
    """What the assistant says in a row: of a conversation each turn, of a pair each side's.

    Turns that only call tools are none.
    """
    return [
        message["content"]
        for _, messages in turns_of(row)
        for message in messages
        if message["role"] == "assistant" and not (message.get("tool_calls") and not message["content"])
    ]  # fmt: skip


def prompt_text(row: Row) -> str:
    """What a row asks, up to the first answer, without the system's turns; a document is its own."""
    if isinstance(row, Text | ClassifiedText):
        return full_text(row)
    messages = row.messages if isinstance(row, Conversation | Prompt) else row.prompt  # type: ignore[attr-defined]
    asked = []
    for message in messages:
        if message["role"] == "assistant":
            break
        if message["role"] != "system":
            asked.append(message["content"])
    return "\n\n".join(asked)


def map_texts(row: R, change: Change, *, roles: frozenset[str] | None = None) -> R:
    """`row` with `change` done to its texts and reasoning; the row itself where nothing changes.

    Args:
        row: Any kind of row. Names, tools and the arguments of tool calls are left alone.
        change: From a text to the text in its place.
        roles: Whose turns; all where it is None. Documents and texts to be classified always.
    """
    new: dict[str, Any] = {}
    if isinstance(row, Text | ClassifiedText):
        new["text"] = change(row.text)
        if isinstance(row, ClassifiedText) and row.pair is not None:
            new["pair"] = change(row.pair)
    for name in ("messages", "prompt", "chosen", "rejected", "completion"):
        if (messages := getattr(row, name, None)) is not None:
            new[name] = _turns(messages, change, roles)
    if isinstance(row, Ranking):
        new["completions"] = tuple(_turns(one, change, roles) for one in row.completions)
    if all(
        value is getattr(row, name) or value == getattr(row, name) for name, value in new.items()
    ):
        return row
    return replace(row, **new)


def _turns(messages: Messages, change: Change, roles: frozenset[str] | None) -> Messages:
    return tuple(
        _turn(message, change) if roles is None or message["role"] in roles else message
        for message in messages
    )


def _turn(message: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    new = {
        name: text
        for name in ("content", "reasoning")
        if isinstance(message.get(name), str) and (text := change(message[name])) != message[name]
    }
    return {**message, **new} if new else message
