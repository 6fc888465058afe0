"""What a stage is: a name, a config, the slots it reads and writes, a plan, and a run."""

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
from aligner.state import SLOTS, ModelCache, ModelState, Slot

if TYPE_CHECKING:
    from aligner.preview import PreviewRequest, PreviewSection
    from aligner.registry import Registry


class StageOptions(BaseModel):
    """A stage's options. Say what each is for in a docstring under the field."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @classmethod
    def determining(cls) -> frozenset[str]:
        """Options that decide what the step makes; the others may change and it is still reused.

        An option is taken out with `Field(..., json_schema_extra={"determines": False})`.
        """
        extras = {name: f.json_schema_extra for name, f in cls.model_fields.items()}
        free = {
            n for n, e in extras.items() if isinstance(e, dict) and e.get("determines") is False
        }
        return frozenset(extras) - free

    def rows_from(self) -> Mapping[str, str]:
        """By option, the earlier steps whose rows these options name, nested ones included."""
        return {
            f"{path}.{option}": step
            for name in type(self).model_fields
            for path, inner in _nested(getattr(self, name), name)
            for option, step in inner.rows_from().items()
        }


def _nested(value: Any, path: str) -> Iterator[tuple[str, StageOptions]]:
    """The options within an option's value, each with where it is written."""
    if isinstance(value, StageOptions):
        yield path, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _nested(one, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from _nested(one, f"{path}.{number}")


@dataclass(frozen=True, kw_only=True)
class SlotForecast:
    """What is known, before anything runs, of the thing that will fill a slot."""

    made_by: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What `aligner.models` and `aligner.data` found out: config, adapters, the tokenizer itself."""


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """What a stage sees when it plans: the chain up to its step, and the data; no weights."""

    step: str
    where: str
    """`file:line` of the step, for complaints."""
    recipe_folder: Path
    """Relative paths in the recipe start here."""
    seed: int
    slots: Mapping[Slot, SlotForecast]
    """What will fill each slot when this step starts."""
    registry: Registry
    """Reward functions, data sources and data formats of the installed plugins."""
    memo: dict[str, Any]
    """What this process has read or worked out already, shared by the whole chain."""
    cache: Path | None = None
    """Where prepared data is kept for every step and recipe; None keeps it for this process alone."""
    past: Mapping[str, Mapping[Slot, SlotForecast]] = field(default_factory=dict)
    """What will fill each slot after earlier steps, for the names in the stage's `earlier_steps`, and for
    those whose rows its options name."""
    option_lines: Mapping[str, str] = field(default_factory=dict)
    """`file:line` of each option written in the recipe."""

    def at(self, option: str) -> str:
        """Where `option` of this step is written, or the nearest thing around it."""
        return _nearest(option, self.option_lines, self.where)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `run` is going to do, said before anything is loaded."""

    summary: str
    """One line: what the step does, with the options that matter."""
    rows: int | None = None
    tokens: int | None = None
    """Tokens seen in one pass over the rows, padding left out."""
    optimizer_steps: int | None = None
    trained: int | None = None
    """Parameters that will move."""
    parameters: int | None = None
    """Parameters in all of the model that is trained."""
    incoming: str = ""
    """How the adapters that come in are treated."""
    reference: str = ""
    """Which model is the reference, where there is one."""
    metrics: frozenset[str] = frozenset()
    """Names of the metrics the step will record; a gate may be put on these."""
    data: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the content of each data set the step reads."""
    ledgers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """For each data set, what became of its rows and tokens."""
    skipped: Mapping[str, Iterable[Mapping[str, Any]]] = field(default_factory=dict)
    """For each data set, the malformed rows that were left out, with where and why."""
    slots: Mapping[Slot, SlotForecast] = field(default_factory=dict)
    """What the step will leave in the slots it provides."""
    notes: tuple[str, ...] = ()
    offered: Mapping[str, str] = field(default_factory=dict)
    """The reward functions it calls and the plugin, with its version, that offers each; the check
    fills this in from what `context.registry` was asked for."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report from a running step."""

    step: str
    done: int
    total: int
    unit: str = "step"
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """Where and how a step runs: what it may know besides its config and the state."""

    step: str
    folder: Path
    """Where the step writes, and nowhere else. It becomes the step's finished folder."""
    recipe_folder: Path
    """Relative paths in the recipe start here."""
    where: str
    """`file:line` of the step, for complaints."""
    option_lines: Mapping[str, str] = field(default_factory=dict)
    """`file:line` of each option written in the recipe."""
    seed: int
    plan: Plan
    model_cache: ModelCache
    registry: Registry
    memo: dict[str, Any]
    cache: Path | None = None
    """Where prepared data is kept for every step and recipe; None keeps it for this process alone."""
    past: Mapping[str, ModelState] = field(default_factory=dict)
    """The states that earlier steps left, for the names in the stage's `earlier_steps`, and for those
    whose rows its options name."""
    listener: Callable[[Progress], None] = lambda progress: None
    metrics: dict[str, float] = field(default_factory=dict)
    """What the step's table row and its gates show; filled through `record`."""
    rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Only the first of several processes writes; the others compute."""
        return self.rank == 0

    def at(self, option: str) -> str:
        """Where `option` of this step is written, or the nearest thing around it."""
        return _nearest(option, self.option_lines, self.where)

    def progress(self, done: int, total: int, *, unit: str = "step", **metrics: float) -> None:
        """Say how far the step is, with the metrics of this moment; kept in `metrics.jsonl`."""
        if self.writes and metrics:
            line = json.dumps({"done": done, "total": total, "unit": unit, **metrics})
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as curve:
                curve.write(line + "\n")
        self.listener(Progress(step=self.step, done=done, total=total, unit=unit, metrics=metrics))

    def record(self, **metrics: float) -> None:
        """Put final metrics in the step's row of the closing table, where gates look."""
        self.metrics.update({name: float(value) for name, value in metrics.items()})

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep texts the model wrote, in `samples.jsonl`."""
        if self.writes:
            with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _nearest(option: str, lines: Mapping[str, str], otherwise: str) -> str:
    while option and option not in lines:
        option = option.rpartition(".")[0]
    return lines.get(option, otherwise)


C = TypeVar("C", bound=StageOptions)


class Stage(ABC, Generic[C]):
    """One step of a chain. Subclass it as `Stage[YourConfig]` and give the parts below."""

    name: ClassVar[str]
    """The word written after `stage:` in a recipe."""
    Options: ClassVar[type[StageOptions]]
    """Taken from the brackets: `class DPO(Stage[DPOConfig])`."""

    def __init__(self, options: C) -> None:
        self.options = options

    @property
    @abstractmethod
    def requires(self) -> frozenset[Slot]:
        """Slots that must be filled before `run`. A class attribute, or a property of the config."""

    @property
    @abstractmethod
    def provides(self) -> frozenset[Slot]:
        """Slots that `run` fills or replaces; it may touch no other."""

    @property
    def uses(self) -> frozenset[Slot]:
        """Slots that are read where they are filled, and done without where not."""
        return frozenset()

    @property
    def earlier_steps(self) -> tuple[str, ...]:
        """Names of earlier steps whose state `run` finds in `run.past`; `model` is the start."""
        return ()

    @property
    def all_earlier_steps(self) -> tuple[str, ...]:
        """All earlier steps that are handed over: those of `earlier_steps`, and of made rows."""
        return tuple(dict.fromkeys((*self.earlier_steps, *self.options.rows_from().values())))

    @abstractmethod
    def plan(self, context: PlanContext) -> Plan:
        """Say what `run` will do, raising every error found. Loads no weights, needs no GPU."""

    def preview(self, context: PlanContext, request: PreviewRequest) -> Sequence[PreviewSection]:
        """Show some rows as the model will get them, by the collator that trains; of a step without
        errors. Nothing by default. Loads no weights, needs no GPU."""
        return ()

    @abstractmethod
    def run(self, state: ModelState, context: StepContext) -> ModelState:
        """Do it, write under `run.folder`, and return the state with `provides` filled."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        where = f"{cls.__module__}.{cls.__qualname__}"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", getattr(cls, "name", "")):
            raise PluginError("a stage needs a lower-case `name`", where=where)
        for part in ("requires", "provides", "uses"):
            declared = getattr(cls, part)
            for slot in declared if isinstance(declared, frozenset | set) else ():
                if slot not in SLOTS:
                    raise PluginError(
                        f"`{part}` names no slot: {slot!r}",
                        where=where,
                        hint=did_you_mean(slot, SLOTS),
                    )
        cls.Options = _config_in_brackets(cls, where)


def _config_in_brackets(cls: type, where: str) -> type[StageOptions]:
    for base in getattr(cls, "__orig_bases__", ()):
        for argument in get_args(base):
            if isinstance(argument, type) and issubclass(argument, StageOptions):
                return argument
    inherited = getattr(cls, "Options", None)
    if inherited is None:
        raise PluginError("say which config it takes: `Stage[YourConfig]`", where=where)
    return inherited  # type: ignore[no-any-return]  # a subclass of a stage keeps its config
