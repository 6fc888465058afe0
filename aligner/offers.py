"""What plugins offer besides stages: reward functions, data sources and data formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Message = Mapping[str, Any]
"""One turn: `role`, `content`, and where they apply `tool_calls`, `name`, `weight`."""


class OfferConfig(BaseModel):
    """Options of a reward function or data source, documented under each field."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered, as a reward function sees it."""

    prompt: tuple[Message, ...]
    text: str
    """The answer without special tokens."""
    ended: bool = True
    """Whether it stopped by itself rather than at the length limit."""
    tokens: int = 0
    row: Mapping[str, Any] = field(default_factory=dict)
    """The other columns of the prompt's row, a reference answer for instance."""


class RewardFunction(ABC):
    """Scores completions: as a reward in training, as a judge in evaluation."""

    name: ClassVar[str]
    Config: ClassVar[type[OfferConfig]] = OfferConfig

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    @abstractmethod
    def score(self, completions: Sequence[Completion]) -> list[float]:
        """One number a completion, larger is better."""


class DataSource(ABC):
    """Makes rows: the same rows for the same options, on every machine."""

    name: ClassVar[str]
    Config: ClassVar[type[OfferConfig]] = OfferConfig

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    @abstractmethod
    def rows(self) -> Iterable[Mapping[str, Any]]:
        """The rows, in any format aligner recognises."""


RowKind = Literal[
    "text", "conversation", "prompt", "preference", "ranking", "label", "score", "class"
]


@dataclass(frozen=True, kw_only=True)
class DataFormat:
    """A way of writing rows, recognised by its columns and converted to aligner's own form."""

    name: str
    kind: RowKind
    recognise: Callable[[Sequence[Mapping[str, Any]]], bool]
    """Whether these first rows are written this way."""
    convert: Callable[[Mapping[str, Any]], Any]
    """One row to aligner's own form (`aligner.data.rows`); raises ValueError saying what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Offers:
    """All that the installed plugins offer besides stages, by name."""

    reward_functions: Mapping[str, type[RewardFunction]] = field(default_factory=dict)
    data_sources: Mapping[str, type[DataSource]] = field(default_factory=dict)
    data_formats: Mapping[str, DataFormat] = field(default_factory=dict)
