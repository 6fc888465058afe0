"""Read or change the texts of a row, whatever its type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from aligner.data.rows import ClassifiedText, Conversation, Messages, Prompt, Ranking, Row, Text

R = TypeVar("R", bound=Row)
Change = Callable[[str], str]


def turns_of(row: Row) -> Iterator[tuple[str, Messages]]:
    """Yield the name and the turns of each field of a row: `prompt`, `messages`, `chosen`, …"""
    for name in ("messages", "prompt", "chosen", "rejected", "completion"):
        if (messages := getattr(row, name, None)) is not None:
            yield name, messages
    if isinstance(row, Ranking):
        for index, messages in enumerate(row.completions):
            yield f"completions[{index}]", messages


def texts_of(row: Row) -> Iterator[tuple[str, str, str]]:
    """Yield field, role and text of every turn of a row; the role of a document is `text`."""
    if isinstance(row, Text | ClassifiedText):
        yield "text", "text", row.text
        if isinstance(row, ClassifiedText) and row.pair is not None:
            yield "pair", "text", row.pair
    for name, messages in turns_of(row):
        for message in messages:
            yield name, message["role"], message["content"]


def full_text(row: Row) -> str:
    """Return all texts of a row, separated by blank lines."""
    return "\n\n".join(text for _, _, text in texts_of(row) if text)


def answers_of(row: Row) -> list[str]:
    """Return the contents of all assistant turns of a row.

    Turns that only call tools are left out.
    """
    return [
        message["content"]
        for _, messages in turns_of(row)
        for message in messages
        if message["role"] == "assistant" and not (message.get("tool_calls") and not message["content"])
    ]  # fmt: skip


def prompt_text(row: Row) -> str:
    """Return the turns before the first answer as text, without system turns; of a document, all of it."""
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
    """Return `row` with `change` applied to its texts and reasoning; `row` itself if nothing changes.

    Args:
        row: Any row. Names, tools and arguments of tool calls do not change.
        change: Function from a text to the new text.
        roles: Roles whose turns change; None for all. Documents always change.
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
        new["completions"] = tuple(
            _turns(completion, change, roles) for completion in row.completions
        )
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
