"""Extensions that plugins offer besides stages: functions, data, templates, importers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

Message = Mapping[str, Any]
"""One turn: `role`, `content`, and optionally `tool_calls`, `name`, `weight`."""


class ExtensionOptions(BaseModel):
    """Options of a reward function, data source or row operation, documented under each field."""

    shorthand: ClassVar[str] = ""
    """Of a row operation: the option that a value sets which is written in place of a mapping."""

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


class OperationLedger(Protocol):
    """The account of the rows of a data set, as far as a row operation keeps it."""

    def leave_out(self, reason: str, origin: str) -> None:
        """Count a row that the operation removes, by the reason for it."""

    def find(self, finding: str, origin: str) -> None:
        """Count a row under one of the operation's `findings`."""


@dataclass(frozen=True, kw_only=True)
class OperationContext:
    """The surroundings of a row operation while it is applied."""

    where: str
    """`file:line` of the data or option, for error messages."""
    recipe_folder: Path
    """Folder from which relative paths in the recipe start."""
    seed: int
    """Seed of the recipe."""
    memo: dict[str, Any]
    """Values that this process computed before, shared by all steps."""
    ledger: OperationLedger
    index: Any = None
    """Value that `RowOperation.index` returned; None of an operation that compares with nothing."""


OperationScope = Literal["entry", "training entry", "step"]


class RowOperation(ABC):
    """An operation on rows, named in a recipe by an option of a data entry or of a step.

    It receives and yields the row types of `aligner.kit.rows`, one row at a time. The same rows,
    options and seed must give the same rows on every machine, and each row that is removed must be
    counted in `context.ledger`.
    """

    name: ClassVar[str]
    """Option of the recipe: `NAME: true` takes the defaults, `NAME: {…}` sets options."""
    Options: ClassVar[type[ExtensionOptions]] = ExtensionOptions
    scope: ClassVar[OperationScope]
    """Rows that the operation receives: those of one data entry, those of one entry of `data` that are
    trained on once the held-out rows have been taken away, or those of all entries of `data` together."""
    order: ClassVar[int] = 50
    """Position among the operations of the same scope: smaller numbers come first, then names."""
    findings: ClassVar[Mapping[str, str]] = {}
    """Names of the counts that the operation adds to the ledger, each with a phrase that ends the
    sentence "3 rows …"."""
    compares: ClassVar[bool] = False
    """True for an operation of a step that compares its rows with `eval_data` and with the data sets that
    its option `against` names; `index` receives their rows."""

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @abstractmethod
    def apply(self, rows: Iterator[Any], context: OperationContext) -> Iterator[Any]:
        """Yield the rows that remain, changed or not, and count the others in `context.ledger`."""

    def index(self, references: Iterable[Iterable[Any]]) -> Any:
        """Return what `apply` needs to know of the data sets to compare with, one after the other."""
        return None

    def determinants(self, context: OperationContext) -> str:
        """Return everything besides the options that decides the result: the seed, the content of files.

        An option's own value need not be part of it.
        """
        return ""


@dataclass(frozen=True)
class InstalledOperation:
    """A row operation and the plugin, with its version, that provides it."""

    operation: type[RowOperation]
    plugin: str


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
"""Kind of a remark of an importer about a setting."""


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
    """Returns one chain for one file or several, in order, given the options class of each stage by its name;
    raises AlignerError if something that decides the result has no counterpart."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Extensions of all installed plugins, by name."""

    reward_functions: Mapping[str, type[RewardFunction]] = field(default_factory=dict)
    data_sources: Mapping[str, type[DataSource]] = field(default_factory=dict)
    data_formats: Mapping[str, DataFormat] = field(default_factory=dict)
    row_operations: Mapping[str, InstalledOperation] = field(default_factory=dict)
    recipe_templates: Mapping[str, RecipeTemplate] = field(default_factory=dict)
    config_importers: Mapping[str, ConfigImporter] = field(default_factory=dict)
