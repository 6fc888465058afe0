"""What plugins offer besides stages: functions, data, and ways to begin a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Message = Mapping[str, Any]
"""One turn: `role`, `content`, and where they apply `tool_calls`, `name`, `weight`."""


class ExtensionOptions(BaseModel):
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
    tools: tuple[Mapping[str, Any], ...] | None = None
    """Descriptions of the functions that the assistant may call, where the prompt's row has any."""


class RewardFunction(ABC):
    """Scores completions: as a reward in training, as a judge in evaluation."""

    name: ClassVar[str]
    Options: ClassVar[type[ExtensionOptions]] = ExtensionOptions

    def __init__(self, config: Any = None) -> None:
        self.options: Any = self.Options() if config is None else config

    @abstractmethod
    def score(self, completions: Sequence[Completion]) -> list[float]:
        """One number a completion, larger is better."""


class DataSource(ABC):
    """Makes rows: the same rows for the same options, on every machine."""

    name: ClassVar[str]
    Options: ClassVar[type[ExtensionOptions]] = ExtensionOptions

    def __init__(self, config: Any = None) -> None:
        self.options: Any = self.Options() if config is None else config

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
    recognize: Callable[[Sequence[Mapping[str, Any]]], bool]
    """Whether these first rows are written this way."""
    convert: Callable[[Mapping[str, Any]], Any]
    """One row to aligner's own form (`aligner.data.rows`); raises ValueError saying what is wrong."""


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """What is known of a data set for which a recipe is being written."""

    spec: str
    """What stands after `data:`, as YAML on one line."""
    rows: int | None = None
    longest: int | None = None
    """Tokens within which nearly all rows stay, counted with room for the template; None if unknown."""


@dataclass(frozen=True, kw_only=True)
class TemplateInputs:
    """What a recipe is to be made of, and what looking at it has shown."""

    model: str
    adapter: Literal["lora", "qlora", "none"]
    data: Mapping[str, DatasetSummary]
    """By the names that the outline asks for."""
    positions: int | None = None
    """Longest sequence of the model in tokens; None if it could not be looked at."""
    template: bool | None = None
    """Whether the tokenizer has a chat template; None if it could not be looked at."""
    special: frozenset[str] = frozenset()
    """The tokenizer's special tokens."""


@dataclass(frozen=True, kw_only=True)
class RecipeTemplate:
    """The beginning of a recipe for one method, for `aligner new recipe`."""

    name: str
    about: str
    """One line: what is trained, from what."""
    asks: Mapping[str, RowKind]
    """The data it needs: `data` or `preferences`, and the kind of its rows."""
    may: Mapping[str, RowKind] = field(default_factory=dict)
    """The same for data that it does without."""
    adapter: Literal["lora", "qlora", "none"] = "lora"
    """What is trained where the user does not say."""
    write: Callable[[TemplateInputs], str]
    """The recipe, as commented YAML."""


ImportNoteKind = Literal["no counterpart", "other meaning", "not needed", "default", "added"]


@dataclass(frozen=True, kw_only=True)
class ImportNote:
    """What became of one setting of another tool's recipe, where it was not simply taken over."""

    kind: ImportNoteKind
    where: str
    """`file:line`, or the file alone for what it does not say."""
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ExternalConfig:
    """A recipe of another tool, as it is written."""

    path: Path
    where: str
    """The path as the user gave it."""
    settings: Mapping[str, Any]
    lines: Mapping[str, str]
    """`file:line` of each setting, by its dotted path."""
    folder: Path
    """Where its relative paths start: the folder the tool is started in."""
    recipe_folder: Path
    """Where those of the written recipe start."""
    method: str | None = None
    """What the user says it does, where the file does not."""

    def at(self, key: str) -> str:
        """Where `key` is written, or the nearest thing around it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return self.lines.get(key, self.where)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """The recipe that does the same, and what must be said about it."""

    recipe: Mapping[str, Any]
    """As `aligner.recipe.recipe_from` takes it."""
    notes: tuple[ImportNote, ...]
    taken: int
    """Settings that mean here just what they meant there."""


@dataclass(frozen=True, kw_only=True)
class ConfigImporter:
    """Reads the recipes of one other tool, for `aligner import`."""

    name: str
    recognize: Callable[[Mapping[str, Any]], bool]
    """Whether these settings are written for that tool, and for no other."""
    translate: Callable[[Sequence[ExternalConfig], Mapping[str, type[Any]]], ImportResult]
    """One chain from one file or several, in order, given the stage classes by name; raises AlignerError
    where something that decides the result has no counterpart."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """All that the installed plugins offer besides stages, by name."""

    reward_functions: Mapping[str, type[RewardFunction]] = field(default_factory=dict)
    data_sources: Mapping[str, type[DataSource]] = field(default_factory=dict)
    data_formats: Mapping[str, DataFormat] = field(default_factory=dict)
    recipe_templates: Mapping[str, RecipeTemplate] = field(default_factory=dict)
    config_importers: Mapping[str, ConfigImporter] = field(default_factory=dict)
