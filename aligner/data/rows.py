"""The one form that rows of every source and format are turned into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aligner.registry import Message

Messages = tuple[Message, ...]
"""Turns in order. Each has `role` (system, user, assistant, tool) and `content`, a string, and where
they apply `reasoning`, `tool_calls`, `name` and `weight` (0 or 1)."""

Tools = tuple[Mapping[str, Any], ...]
"""Descriptions of functions the assistant may call, as JSON Schema."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every kind of row carries."""

    origin: str = ""
    """Where it was written: `file:line`, or `file[index]` where rows have no lines."""


@dataclass(frozen=True, kw_only=True)
class Text(Row):
    """A document, to be learnt whole."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Conversation(Row):
    """Turns to learn the assistant's part of."""

    messages: Messages
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt(Row):
    """Turns that wait for an answer."""

    messages: Messages
    tools: Tools | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    """The other columns; a reference answer is called `answer`."""


@dataclass(frozen=True, kw_only=True)
class Preference(Row):
    """Two answers to one prompt, the first of which is preferred."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    margin: float | None = None
    """By how much, where the data says."""
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class LabeledCompletion(Row):
    """One answer, and whether it is a good one."""

    prompt: Messages
    completion: Messages
    label: bool
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class ScoredCompletion(Row):
    """One answer and its score; larger is better."""

    prompt: Messages
    completion: Messages
    score: float
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class Ranking(Row):
    """Several answers to one prompt with their scores; larger is better."""

    prompt: Messages
    completions: tuple[Messages, ...]
    scores: tuple[float, ...]
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class ClassifiedText(Row):
    """A text, or two, and the name of its class."""

    text: str
    pair: str | None = None
    label: str


KINDS: Mapping[type[Row], str] = {
    Text: "text",
    Conversation: "conversation",
    Prompt: "prompt",
    Preference: "preference",
    Ranking: "ranking",
    LabeledCompletion: "label",
    ScoredCompletion: "score",
    ClassifiedText: "class",
}
"""The name of each kind, as `aligner.registry.RowKind` spells it."""
