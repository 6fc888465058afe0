"""Tokenized rows: the forms in which rows are stored and trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aligner.data.rows import Messages, Tools


@dataclass(frozen=True)
class SequenceTokens:
    """A row as the model sees it."""

    input_ids: list[int]
    trained: list[bool]
    """Whether a loss is put on each token."""
    ends: tuple[int, ...] = ()
    """Where each of the assistant's trained turns ends, as a number of tokens."""
    origin: str = ""


@dataclass(frozen=True)
class PreferenceTokens:
    """A pair as the model sees it: either answer goes right after the prompt."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_trained: list[bool] = field(default_factory=list)
    """False for what the assistant did not say, tool results between its turns for instance."""
    rejected_trained: list[bool] = field(default_factory=list)
    margin: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the model sees it."""

    input_ids: list[int]
    messages: Messages
    row: Mapping[str, Any]
    """The other columns; a reference answer is called `answer`."""
    origin: str = ""
    tools: Tools | None = None


@dataclass(frozen=True)
class LabelTokens:
    """An answer as the model sees it, and whether it is a good one."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool
    completion_trained: list[bool] = field(default_factory=list)
    origin: str = ""
