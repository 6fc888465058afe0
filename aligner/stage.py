"""The stage contract: options, slots, plan, preview and run."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict

from aligner.errors import PluginError, did_you_mean
from aligner.state import BUILT_IN_SLOTS, ModelCache, ModelState, Slot

if TYPE_CHECKING:
    from aligner.preview import PreviewRequest, PreviewSection
    from aligner.registry import InstalledOperation, OperationScope, Registry


class StageOptions(BaseModel):
    """Options of a stage, each documented by a docstring under the field.

    `Field(..., json_schema_extra={"determines": False})` marks an option that does not change the
    result: a finished step is reused when only such options differ.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    operation_scopes: ClassVar[frozenset[OperationScope]] = frozenset()
    """Scopes of the row operations that these options may name besides their own fields."""
    operations: ClassVar[Mapping[str, InstalledOperation]] = {}
    """Row operations that these options have fields for: see `aligner.options.row_operations`."""

    def rows_from(self) -> Mapping[str, str]:
        """Return, by option (nested ones included), the earlier step whose rows it names."""
        return {
            f"{path}.{option}": step
            for name in type(self).model_fields
            for path, inner in _nested(getattr(self, name), name)
            for option, step in inner.rows_from().items()
        }


def _nested(value: Any, path: str) -> Iterator[tuple[str, StageOptions]]:
    """Yield the options inside an option's value, each with its dotted path."""
    if isinstance(value, StageOptions):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _nested(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _nested(entry, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            yield from _nested(entry, f"{path}.{number}")


@dataclass(frozen=True, kw_only=True)
class SlotForecast:
    """Facts about the future content of a slot, known before any step runs."""

    made_by: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts by name: model configuration, adapters, the tokenizer itself."""


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """Input of `Stage.plan`: the chain up to the step and its data, without weights."""

    step: str
    where: str
    """`file:line` of the step. The host adds it to errors without a location."""
    recipe_folder: Path
    """Base folder of relative paths in the recipe."""
    seed: int
    slots: Mapping[Slot, SlotForecast]
    """Forecast of each slot that is filled when this step starts."""
    registry: Registry
    """Reward functions, data sources and data formats of the installed plugins."""
    memo: dict[str, Any]
    """Values that this process has computed already, shared by the whole chain."""
    cache: Path | None = None
    """Folder of prepared data, shared by all recipes; None: prepared data ends with the process."""
    past: Mapping[str, Mapping[Slot, SlotForecast]] = field(default_factory=dict)
    """Forecasts of the slots after earlier steps: those in `earlier_steps`, and those whose rows the
    options name."""
    option_lines: Mapping[str, str] = field(default_factory=dict)
    """`file:line` of each option written in the recipe."""

    def at(self, option: str) -> str:
        """Return `file:line` of `option`, or of the closest option or step around it."""
        return _nearest(option, self.option_lines, self.where)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Output of `Stage.plan`: what the step will do, known before weights are loaded."""

    summary: str
    """One line: the work of the step with its most important options."""
    rows: int | None = None
    tokens: int | None = None
    """Tokens in one pass over the rows, without padding."""
    optimizer_steps: int | None = None
    trained: int | None = None
    """Number of trainable parameters."""
    parameters: int | None = None
    """Number of parameters of the model that is trained."""
    incoming: str = ""
    """Treatment of the incoming adapters."""
    reference: str = ""
    """The reference model, if the step has one."""
    metrics: frozenset[str] = frozenset()
    """Names of the metrics that the step records; a gate can refer to these."""
    data: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the content of each data set the step reads."""
    ledgers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Ledger of each data set: numbers of rows and tokens read, dropped, truncated and kept."""
    skipped: Mapping[str, Iterable[Mapping[str, Any]]] = field(default_factory=dict)
    """Malformed rows of each data set that were skipped, each with location and reason."""
    slots: Mapping[Slot, SlotForecast] = field(default_factory=dict)
    """Forecast of each slot that the step provides."""
    notes: tuple[str, ...] = ()
    reward_functions: Mapping[str, str] = field(default_factory=dict)
    """Plugin and version of each reward function that the step uses. The check fills this in: it
    records the look-ups in `context.registry`."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress report of a running step."""

    step: str
    done: int
    total: int
    unit: str = "step"
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """Input of `Stage.run` besides the options and the state."""

    step: str
    folder: Path
    """The only folder the step may write to. It becomes the folder of the finished step."""
    recipe_folder: Path
    """Base folder of relative paths in the recipe."""
    where: str
    """`file:line` of the step. The host adds it to errors without a location."""
    option_lines: Mapping[str, str] = field(default_factory=dict)
    """`file:line` of each option written in the recipe."""
    seed: int
    plan: Plan
    model_cache: ModelCache
    registry: Registry
    memo: dict[str, Any]
    cache: Path | None = None
    """Folder of prepared data, shared by all recipes; None: prepared data ends with the process."""
    past: Mapping[str, ModelState] = field(default_factory=dict)
    """States after earlier steps: those in `earlier_steps`, and those whose rows the options name."""
    listener: Callable[[Progress], None] = lambda progress: None
    metrics: dict[str, float] = field(default_factory=dict)
    """Final metrics of the step, shown in the summary and checked by gates; filled by `record`."""
    rank: int = 0
    world_size: int = 1

    @property
    def writes(self) -> bool:
        """True in the process that writes files: rank 0."""
        return self.rank == 0

    def at(self, option: str) -> str:
        """Return `file:line` of `option`, or of the closest option or step around it."""
        return _nearest(option, self.option_lines, self.where)

    def progress(self, done: int, total: int, *, unit: str = "step", **metrics: float) -> None:
        """Report progress and current metrics; metrics are appended to `metrics.jsonl`."""
        if self.writes and metrics:
            line = json.dumps({"done": done, "total": total, "unit": unit, **metrics})
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        self.listener(Progress(step=self.step, done=done, total=total, unit=unit, metrics=metrics))

    def record(self, **metrics: float) -> None:
        """Record final metrics of the step, for the summary and the gates."""
        self.metrics.update({name: float(value) for name, value in metrics.items()})

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append texts that the model generated to `samples.jsonl`."""
        if self.writes:
            with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _nearest(option: str, lines: Mapping[str, str], default: str) -> str:
    while option and option not in lines:
        option = option.rpartition(".")[0]
    return lines.get(option, default)


OptionsT = TypeVar("OptionsT", bound=StageOptions)


class Stage(ABC, Generic[OptionsT]):
    """Base class of stages: subclass `Stage[YourOptions]` and define the members below."""

    name: ClassVar[str]
    """Name of the stage in a recipe, after `stage:`."""
    Options: ClassVar[type[StageOptions]]
    """Options class, taken from the brackets: `class DPO(Stage[DPOOptions])`."""
    declares: ClassVar[Mapping[Slot, str]] = {}
    """Slots that this plugin adds, each with a description. A name begins with the plugin's package:
    `aligner_classify.head`."""

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    @property
    @abstractmethod
    def requires(self) -> frozenset[Slot]:
        """Slots that must be filled before `run`: a class attribute, or a property over the options."""

    @property
    @abstractmethod
    def provides(self) -> frozenset[Slot]:
        """Slots that `run` fills or replaces; it may change no other."""

    @property
    def uses(self) -> frozenset[Slot]:
        """Slots that `run` reads if they are filled."""
        return frozenset()

    @property
    def earlier_steps(self) -> tuple[str, ...]:
        """Names of earlier steps whose states `context.past` contains; `model` is the initial state."""
        return ()

    @property
    def all_earlier_steps(self) -> tuple[str, ...]:
        """Names of the steps in `context.past`: `earlier_steps`, and those whose rows are read."""
        return tuple(dict.fromkeys((*self.earlier_steps, *self.options.rows_from().values())))

    @abstractmethod
    def plan(self, context: PlanContext) -> Plan:
        """Describe what `run` will do and raise all errors. Loads no weights, needs no GPU."""

    def preview(self, context: PlanContext, request: PreviewRequest) -> Sequence[PreviewSection]:
        """Return some rows as the model will receive them, built by the training collator.

        Called after `plan` has succeeded. Loads no weights, needs no GPU. Nothing by default.
        """
        return ()

    @abstractmethod
    def run(self, state: ModelState, context: StepContext) -> ModelState:
        """Do the work, write to `context.folder`, and return the state with `provides` filled."""

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if abstract:  # a base class of stages, which has neither a name nor options of its own
            return
        where = f"{cls.__module__}.{cls.__qualname__}"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", getattr(cls, "name", "")):
            raise PluginError("a stage needs a lower-case `name`", where=where)
        _check_slots(cls, where)
        cls.Options = _options_in_brackets(cls, where)


def _check_slots(cls: type[Stage[Any]], where: str) -> None:
    """Check the slot names in the declarations of a stage class.

    Slots with a dot in `requires`, `provides` and `uses` may be another plugin's: linking checks them.
    """
    prefix = f"{cls.__module__.partition('.')[0]}."
    for slot in cls.declares:
        if not re.fullmatch(rf"{re.escape(prefix)}[a-z][a-z0-9_]*", slot):
            raise PluginError(
                f"`declares` contains {slot!r}, which is not a lower-case name after {prefix!r}",
                where=where,
                hint="the slots of a plugin begin with the name of its package",
            )
    for part in ("requires", "provides", "uses"):
        slots = getattr(cls, part)
        for slot in slots if isinstance(slots, frozenset | set) else ():
            if slot not in BUILT_IN_SLOTS and "." not in slot:
                raise PluginError(
                    f"`{part}` contains {slot!r}, which is not a slot",
                    where=where,
                    hint=did_you_mean(slot, {*BUILT_IN_SLOTS, *cls.declares}),
                )


def _options_in_brackets(cls: type, where: str) -> type[StageOptions]:
    for base in getattr(cls, "__orig_bases__", ()):
        for argument in get_args(base):
            if isinstance(argument, type) and issubclass(argument, StageOptions):
                return argument
    inherited = getattr(cls, "Options", None)
    if inherited is None:
        raise PluginError(
            "the class names no options", where=where, hint="derive it from `Stage[YourOptions]`"
        )
    return inherited  # type: ignore[no-any-return]  # a subclass of a stage keeps its options


def slots_by_default(stage: type[Stage[Any]], part: str) -> frozenset[Slot] | None:
    """Return `requires`, `provides` or `uses` with default options; None if required options decide."""
    try:
        slots = getattr(stage(stage.Options.model_construct()), part)
    except AttributeError:  # `model_construct` leaves required options out
        return None
    return frozenset(slots)
