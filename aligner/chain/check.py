"""Check a chain before any weights load: every step plans in turn, and all errors are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aligner.chain.link import START, Chain, ChainStep
from aligner.errors import AlignerError, ChainError, DataError, ErrorGroup, did_you_mean
from aligner.host import Host
from aligner.registry import Registry, RewardFunction
from aligner.run.folder import data_folder
from aligner.stage import Plan, PlanContext, SlotForecast
from aligner.state import Artifact, ModelState, Slot


@dataclass(frozen=True)
class CheckedChain:
    """A chain without errors, with the plan of each step."""

    chain: Chain
    plans: tuple[Plan, ...]
    registry: Registry = field(repr=False)
    memo: dict[str, Any] = field(repr=False)
    """Values that the check computed, for the run to use again."""
    contexts: tuple[PlanContext, ...] = field(default=(), repr=False)
    """The input of each step's plan."""


def check(
    chain: Chain,
    host: Host,
    *,
    memo: dict[str, Any] | None = None,
    runs: Path | None = None,
    on_planned: Callable[[ChainStep, PlanContext], None] = lambda step, context: None,
) -> CheckedChain:
    """Plan each step on the forecasts of the steps before it; raise all errors together.

    Args:
        chain: The linked recipe.
        host: The plugins.
        memo: Values computed before.
        runs: Folder of all runs, in which prepared data is stored for later ones.
        on_planned: Called after each step that planned without an error.
    """
    planner = _Planner(chain, host, {} if memo is None else memo, runs)
    for step in chain.steps:
        planner.plan(step, on_planned)
    ErrorGroup.raise_if_any(planner.errors)
    return CheckedChain(
        chain, tuple(planner.plans), planner.registry, planner.memo, tuple(planner.contexts)
    )


class _Planner:
    """The forecasts, plans and errors so far, while steps plan in turn."""

    def __init__(self, chain: Chain, host: Host, memo: dict[str, Any], runs: Path | None) -> None:
        self.chain, self.host, self.memo, self.runs = chain, host, memo, runs
        self.registry = host.registry()
        self.errors = list(chain.errors)
        self.plans: list[Plan] = []
        self.contexts: list[PlanContext] = []
        self._slots: dict[Slot, SlotForecast] = {
            slot: SlotForecast(made_by=START, facts={"artifact": chain.start.get(slot)})
            for slot in chain.start.filled()
        }
        self._past: dict[str, Mapping[Slot, SlotForecast]] = {START: dict(self._slots)}
        # Slots of unknown content: errors about them would only follow from errors reported already.
        self._unsure = set(chain.unsure) | (_never_filled(chain) if self.errors else set())

    def plan(self, step: ChainStep, on_planned: Callable[[ChainStep, PlanContext], None]) -> None:
        functions = _RecordingFunctions(self.registry.reward_functions)
        context = self._context(step, replace(self.registry, reward_functions=functions))
        self.contexts.append(context)
        unsure = bool(self._unsure & _slots_read(step))
        plan = Plan(summary="")
        try:
            planned = step.stage.plan(context)
            versions = {n: self.host.reward_function_version(n) for n in sorted(functions.used)}
            plan = replace(_without_answer_counts(planned, step), reward_functions=versions)
            on_planned(step, context)
        except AlignerError as error:
            error.locate(step.where)
            members = error.errors if isinstance(error, ErrorGroup) else (error,)
            self.errors += [e for e in members if not unsure or isinstance(e, DataError)]
            plan = self._failed(step)
        except Exception:
            # A stage may rely on the slots it requires; if one is unknown, the cause is reported already.
            if not unsure:
                raise
            plan = self._failed(step)
        self.errors += _unknown_gates(step, plan) if plan.summary else []
        self._slots |= {
            slot: SlotForecast(made_by=step.name)
            for slot in step.stage.provides - self._slots.keys()
        }
        self._slots |= dict(plan.slots)
        self._past[step.name] = dict(self._slots)
        self.plans.append(plan)

    def _failed(self, step: ChainStep) -> Plan:
        self._unsure |= step.stage.provides
        return Plan(summary="")

    def _context(self, step: ChainStep, registry: Registry) -> PlanContext:
        past = self._past
        return PlanContext(
            step=step.name,
            where=step.where,
            recipe_folder=self.chain.recipe.folder,
            seed=self.chain.recipe.seed,
            slots=dict(self._slots),
            registry=registry,
            memo=self.memo,
            cache=data_folder(self.runs) if self.runs is not None else None,
            past={name: past[name] for name in step.stage.all_earlier_steps if name in past},
            option_lines=step.spec.lines,
        )


def plan_on_step_rows(
    checked: CheckedChain, step: ChainStep, past: Mapping[str, ModelState]
) -> Plan:
    """Plan a step again once the rows that it reads exist, so that its counts are exact.

    Raises:
        AlignerError: The step cannot work with the rows.
    """
    rows = {name: past[name].get("data") for name in step.stage.options.rows_from().values()}
    plan = step.stage.plan(with_step_rows(checked.contexts[step.number - 1], rows))
    return replace(plan, reward_functions=checked.plans[step.number - 1].reward_functions)


def with_step_rows(context: PlanContext, rows: Mapping[str, Artifact]) -> PlanContext:
    """Return `context` with the rows that earlier steps, given by name, have written."""
    past: dict[str, Mapping[Slot, SlotForecast]] = dict(context.past)
    for name, artifact in rows.items():
        forecast = SlotForecast(made_by=artifact.made_by, facts={"artifact": artifact})
        past[name] = {**past[name], "data": forecast}
    return replace(context, past=past)


def _slots_read(step: ChainStep) -> frozenset[Slot]:
    rows: frozenset[Slot] = frozenset({"data"} if step.stage.options.rows_from() else ())
    return step.stage.requires | step.stage.uses | rows


def _never_filled(chain: Chain) -> set[Slot]:
    """Return the required slots that are empty at the start of the chain."""
    required: set[Slot] = set()
    return required.union(*(step.stage.requires for step in chain.steps)) - chain.start.filled()


_ANSWER_COUNTS = frozenset({"tokens", "trained", "lengths"})
"""Entries of a ledger that depend on answers, which placeholder rows do not have."""


def _without_answer_counts(plan: Plan, step: ChainStep) -> Plan:
    """Remove counts from the plan of a step whose rows do not exist yet, and add a note."""
    makers = list(dict.fromkeys(step.stage.options.rows_from().values()))
    if not makers:
        return plan
    note = (
        f"the rows of {' and '.join(map(repr, makers))} do not exist yet: the counts are upper limits, "
        "with real prompts and placeholder answers"
    )
    ledgers = {
        name: {entry: value for entry, value in ledger.items() if entry not in _ANSWER_COUNTS}
        for name, ledger in plan.ledgers.items()
    }
    return replace(plan, tokens=None, ledgers=ledgers, notes=(note, *plan.notes))


class _RecordingFunctions(Mapping[str, type[RewardFunction]]):
    """Reward functions by name, recording the look-ups: they are part of the fingerprint."""

    def __init__(self, functions: Mapping[str, type[RewardFunction]]) -> None:
        self._functions = functions
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> type[RewardFunction]:
        found = self._functions[name]
        self.used.add(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)


def _unknown_gates(step: ChainStep, plan: Plan) -> list[AlignerError]:
    return [
        ChainError(
            f"step {step.name!r} has a gate on {metric!r}, which it does not compute",
            where=step.spec.lines.get(f"gate.{metric}", step.where),
            hint=did_you_mean(metric, plan.metrics),
        )
        for metric in step.spec.gate
        if metric not in plan.metrics
    ]
