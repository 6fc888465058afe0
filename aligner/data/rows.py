"""Types of rows, to which the rows of every source and format are converted."""

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
    """Base of all rows."""

    origin: str = ""
    """Location of the row: `file:line`, or `file[index]` in files without lines."""


@dataclass(frozen=True, kw_only=True)
class Text(Row):
    """A document, of which every token is trained."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Conversation(Row):
    """Turns of a conversation, of which the assistant's are trained."""

    messages: Messages
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt(Row):
    """Turns that an answer follows."""

    messages: Messages
    tools: Tools | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    """The other columns; a reference answer is called `answer`."""


@dataclass(frozen=True, kw_only=True)
class Preference(Row):
    """Two answers to a prompt, the first of which is preferred."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    margin: float | None = None
    """Margin of the preference, if the data has one."""
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class LabeledCompletion(Row):
    """An answer with the label good or bad."""

    prompt: Messages
    completion: Messages
    label: bool
    tools: Tools | None = None


@dataclass(frozen=True, kw_only=True)
class ScoredCompletion(Row):
    """An answer with its score; larger is better."""

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
    """A text, or a pair of texts, with the name of its class."""

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
"""Name of the kind of each type, one of `aligner.registry.RowKind`."""
