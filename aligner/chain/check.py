"""Check a chain whole before any weights load: every step plans in turn, all errors are told at once."""

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
    """A chain without errors and what each of its links will do."""

    chain: Chain
    plans: tuple[Plan, ...]
    registry: Registry = field(repr=False)
    memo: dict[str, Any] = field(repr=False)
    """What the check read and worked out, so that the run need not do it again."""
    looks: tuple[PlanContext, ...] = field(default=(), repr=False)
    """What each link saw when it planned."""


def check(
    chain: Chain,
    host: Host,
    *,
    memo: dict[str, Any] | None = None,
    runs: Path | None = None,
    each: Callable[[ChainStep, PlanContext], None] = lambda one, look: None,
) -> CheckedChain:
    """Let every link plan on what those before it will leave. Raises all errors together.

    Args:
        chain: The links.
        host: Whose plugins offer what they ask for.
        scratch: What was read before.
        runs: Folder of all runs, in which prepared data is kept for later ones.
        each: Hears of every link that has planned without an error, and what it saw.
    """
    memo = {} if memo is None else memo
    registry = host.registry()
    errors = list(chain.errors)
    slots: dict[Slot, SlotForecast] = {
        slot: SlotForecast(made_by=START, facts={"artifact": chain.start.get(slot)})
        for slot in chain.start.filled()
    }
    unsure: set[Slot] = set(chain.unsure) | (_missing(chain) if errors else set())
    plans: list[Plan] = []
    looks: list[PlanContext] = []
    past: dict[str, Mapping[Slot, SlotForecast]] = {START: dict(slots)}
    for one in chain.links:
        asked = _Asked(registry.reward_functions)
        look = replace(
            _look(chain, one, slots, replace(registry, reward_functions=asked), memo),
            cache=data_folder(runs) if runs is not None else None,
            past={name: past[name] for name in one.stage.all_earlier_steps if name in past},
        )
        looks.append(look)
        doubtful = bool(unsure & _reads(one))
        try:
            plan = one.stage.plan(look)
            makers = {name: host.maker_of_function(name) for name in sorted(asked.names)}
            plan = replace(_foreseen(plan, one), offered=makers)
            each(one, look)
        except AlignerError as error:
            error.locate(one.step.where)
            errors += [f for f in _each(error) if not doubtful or isinstance(f, DataError)]
            unsure |= set(one.stage.provides)
            plan = Plan(summary="")
        errors += _unknown_gates(one, plan) if plan.summary else []
        slots |= {
            slot: SlotForecast(made_by=one.step.name) for slot in one.stage.provides - slots.keys()
        }
        slots |= dict(plan.slots)
        past[one.step.name] = dict(slots)
        plans.append(plan)
    ErrorGroup.raise_if_any(errors)
    return CheckedChain(chain, tuple(plans), registry, memo, tuple(looks))


def planned_on(checked: CheckedChain, one: ChainStep, past: Mapping[str, ModelState]) -> Plan:
    """The plan of a link that reads made rows, now that they are there: its accounts become true.

    Raises:
        AlignerError: the rows are not what the step can work with.
    """
    made = {name: past[name].get("data") for name in one.stage.options.rows_from().values()}
    plan = one.stage.plan(seeing(checked.looks[one.number - 1], made))
    return replace(plan, offered=checked.plans[one.number - 1].offered)


def seeing(context: PlanContext, made: Mapping[str, Artifact]) -> PlanContext:
    """What a link sees when the rows that earlier steps make for it, given by their names, are there."""
    there: dict[str, Mapping[Slot, SlotForecast]] = dict(context.past)
    for name, rows in made.items():
        outlook = SlotForecast(made_by=rows.made_by, facts={"artifact": rows})
        there[name] = {**there[name], "data": outlook}
    return replace(context, past=there)


def _reads(one: ChainStep) -> frozenset[Slot]:
    made: frozenset[Slot] = frozenset({"data"} if one.stage.options.rows_from() else ())
    return one.stage.requires | one.stage.uses | made


def _foreseen(plan: Plan, one: ChainStep) -> Plan:
    """The plan of a link that reads rows which are not made yet, saying what is known of them."""
    makers = list(dict.fromkeys(one.stage.options.rows_from().values()))
    if not makers:
        return plan
    note = (
        f"rows that {' and '.join(map(repr, makers))} will make: counted are as many as there may be, "
        "their prompts real, their answers not yet written"
    )
    ledgers = {
        name: {what: value for what, value in ledger.items() if what not in _OF_ANSWERS}
        for name, ledger in plan.ledgers.items()
    }
    return replace(plan, tokens=None, ledgers=ledgers, notes=(note, *plan.notes))


_OF_ANSWERS = frozenset({"tokens", "trained", "lengths"})
"""What a ledger says that depends on answers, which stand-ins do not have."""


def _look(
    chain: Chain,
    one: ChainStep,
    slots: dict[Slot, SlotForecast],
    registry: Registry,
    memo: dict[str, Any],
) -> PlanContext:
    return PlanContext(
        step=one.step.name,
        where=one.step.where,
        recipe_folder=chain.recipe.folder,
        seed=chain.recipe.seed,
        slots=dict(slots),
        registry=registry,
        memo=memo,
        option_lines=one.step.lines,
    )


class _Asked(Mapping[str, type[RewardFunction]]):
    """Reward functions, and which of them a stage has asked for: these decide what it makes."""

    def __init__(self, functions: Mapping[str, type[RewardFunction]]) -> None:
        self._functions = functions
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> type[RewardFunction]:
        found = self._functions[name]
        self.names.add(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)


def _missing(chain: Chain) -> set[Slot]:
    """Slots that a link needs and that an error left without content."""
    needed: set[Slot] = set()
    for one in chain.links:
        needed |= one.stage.requires
    return needed - chain.start.filled()


def _each(error: AlignerError) -> tuple[AlignerError, ...]:
    return error.errors if isinstance(error, ErrorGroup) else (error,)


def _unknown_gates(one: ChainStep, plan: Plan) -> list[AlignerError]:
    return [
        ChainError(
            f"step {one.step.name!r} has a gate on {metric!r}, which it does not compute",
            where=one.step.lines.get(f"gate.{metric}", one.step.where),
            hint=did_you_mean(metric, plan.metrics),
        )
        for metric in one.step.gate
        if metric not in plan.metrics
    ]
