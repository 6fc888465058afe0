"""Keys that equal rows share: of their whole content, and of their prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from aligner.data.rows import ClassifiedText, Conversation, Messages, Prompt, Row, Text
from aligner.registry import Message


def prompt_key(row: Row) -> str:
    """What two rows share when they ask the same: all turns before the first answer, but the system's.

    The rows of a whole chain agree on it, whatever their kinds, so that what one step holds out is
    not trained on by another.
    """
    if isinstance(row, Text):
        return row.text
    if isinstance(row, ClassifiedText):
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
