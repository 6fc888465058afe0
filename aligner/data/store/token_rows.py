"""Tokenized rows: the forms in which rows are stored and trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aligner.data.rows import Messages, Tools


@dataclass(frozen=True)
class SequenceTokens:
    """Tokens of a document or a conversation."""

    input_ids: list[int]
    trained: list[bool]
    """True for each token that is trained."""
    ends: tuple[int, ...] = ()
    """Number of tokens up to the end of each trained turn of the assistant."""
    origin: str = ""


@dataclass(frozen=True)
class PreferenceTokens:
    """Tokens of a preference pair: each answer follows the prompt."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_trained: list[bool] = field(default_factory=list)
    """False for tokens that are not the assistant's, for example tool results between its turns."""
    rejected_trained: list[bool] = field(default_factory=list)
    margin: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of a prompt."""

    input_ids: list[int]
    messages: Messages
    row: Mapping[str, Any]
    """The other columns; a reference answer is called `answer`."""
    origin: str = ""
    tools: Tools | None = None


@dataclass(frozen=True)
class LabelTokens:
    """Tokens of a prompt with a labeled answer."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool
    completion_trained: list[bool] = field(default_factory=list)
    origin: str = ""
