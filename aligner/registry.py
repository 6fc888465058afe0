"""Extensions that plugins offer besides stages: functions, data, templates, importers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Message = Mapping[str, Any]
"""One turn: `role`, `content`, and optionally `tool_calls`, `name`, `weight`."""


class ExtensionOptions(BaseModel):
    """Options of a reward function or data source, each documented under its field."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A generated completion with its prompt: the input of reward functions."""

    prompt: tuple[Message, ...]
    text: str
    """The completion without special tokens."""
    ended: bool = True
    """True if the model ended it; False at the length limit."""
    tokens: int = 0
    row: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of the prompt's row, such as a reference answer."""
    tools: tuple[Mapping[str, Any], ...] | None = None
    """Descriptions of the functions that the assistant may call, if the prompt's row has any."""


class RewardFunction(ABC):
    """Base class of functions that score completions: rewards in training, judges in evaluation."""

    name: ClassVar[str]
    Options: ClassVar[type[ExtensionOptions]] = ExtensionOptions

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @abstractmethod
    def score(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number per completion; larger is better."""


class DataSource(ABC):
    """Base class of row generators: equal options give equal rows on every machine."""

    name: ClassVar[str]
    Options: ClassVar[type[ExtensionOptions]] = ExtensionOptions

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @abstractmethod
    def rows(self) -> Iterable[Mapping[str, Any]]:
        """Return the rows, in any format that aligner detects."""


RowKind = Literal[
    "text", "conversation", "prompt", "preference", "ranking", "label", "score", "class"
]
"""Kind of the rows that a stage reads and a data format produces."""


@dataclass(frozen=True, kw_only=True)
class DataFormat:
    """A row format, detected by its columns and converted to aligner's own row classes."""

    name: str
    kind: RowKind
    recognize: Callable[[Sequence[Mapping[str, Any]]], bool]
    """Function that returns True if these first rows are in this format."""
    convert: Callable[[Mapping[str, Any]], Any]
    """Function from one row to aligner's own row class; raises ValueError with the problem."""


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """Facts about a data set for which a recipe is written."""

    spec: str
    """Value of `data:` as YAML on one line."""
    rows: int | None = None
    longest: int | None = None
    """Length in tokens of nearly all rows, the chat template included; None if unknown."""


@dataclass(frozen=True, kw_only=True)
class TemplateInputs:
    """Input of a recipe template: model and data, with facts about them."""

    model: str
    adapter: Literal["lora", "qlora", "none"]
    data: Mapping[str, DatasetSummary]
    """Data sets by the names in `required_data` and `optional_data`."""
    positions: int | None = None
    """Context length of the model in tokens; None if unknown."""
    template: bool | None = None
    """True if the tokenizer has a chat template; None if unknown."""
    special: frozenset[str] = frozenset()
    """Special tokens of the tokenizer."""


@dataclass(frozen=True, kw_only=True)
class RecipeTemplate:
    """Template of a recipe for one method, for `aligner new recipe`."""

    name: str
    about: str
    """One line: the method and its data."""
    required_data: Mapping[str, RowKind]
    """Row kind of each required data set: `data`, `preferences`."""
    optional_data: Mapping[str, RowKind] = field(default_factory=dict)
    """Row kind of each optional data set."""
    adapter: Literal["lora", "qlora", "none"] = "lora"
    """Default of `--adapter`."""
    render: Callable[[TemplateInputs], str]
    """Function that returns the recipe as commented YAML."""


ImportNoteKind = Literal["no counterpart", "other meaning", "not needed", "default", "added"]


@dataclass(frozen=True, kw_only=True)
class ImportNote:
    """Remark about a setting of another tool that has no exact counterpart, or was added."""

    kind: ImportNoteKind
    where: str
    """`file:line`, or the file for a setting that it does not contain."""
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ExternalConfig:
    """A configuration file of another tool."""

    path: Path
    where: str
    """The path as the user gave it."""
    settings: Mapping[str, Any]
    lines: Mapping[str, str]
    """`file:line` of each setting, by its dotted path."""
    folder: Path
    """Base folder of its relative paths: the folder in which the tool is started."""
    recipe_folder: Path
    """Base folder of relative paths in the recipe to write."""
    method: str | None = None
    """Training method given by the user, if the file does not contain it."""

    def at(self, key: str) -> str:
        """Return `file:line` of `key`, or of the closest setting around it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return self.lines.get(key, self.where)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """An equivalent recipe, with remarks."""

    recipe: Mapping[str, Any]
    """The recipe as a mapping, as in YAML."""
    notes: tuple[ImportNote, ...]
    taken: int
    """Number of settings with an exact counterpart."""


@dataclass(frozen=True, kw_only=True)
class ConfigImporter:
    """Importer of the configuration files of one other tool, for `aligner import`."""

    name: str
    recognize: Callable[[Mapping[str, Any]], bool]
    """Function that returns True if these settings are for this tool and no other."""
    translate: Callable[[Sequence[ExternalConfig], Mapping[str, type[Any]]], ImportResult]
    """Function from one or several files, in order, and the stage classes by name to one recipe. Raises
    AlignerError if a setting that determines the result has no counterpart."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Extensions of all installed plugins, by name."""

    reward_functions: Mapping[str, type[RewardFunction]] = field(default_factory=dict)
    data_sources: Mapping[str, type[DataSource]] = field(default_factory=dict)
    data_formats: Mapping[str, DataFormat] = field(default_factory=dict)
    recipe_templates: Mapping[str, RecipeTemplate] = field(default_factory=dict)
    config_importers: Mapping[str, ConfigImporter] = field(default_factory=dict)
