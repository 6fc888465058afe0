"""Run a checked chain: reuse what is done, run the rest on live models, save each step as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aligner.chain.check import CheckedChain
from aligner.chain.events import Event, RunFinished, StepReused
from aligner.chain.link import START, ChainStep
from aligner.chain.run_step import RunSession, run_step
from aligner.errors import ChainError, GateError, did_you_mean
from aligner.host import Host
from aligner.run import ranks
from aligner.run.durable import hash_json
from aligner.run.fingerprint import determinants
from aligner.run.folder import RunFolder
from aligner.run.lock import locked
from aligner.run.store import Finished, Store
from aligner.stage import Plan
from aligner.state import ModelCache, ModelState, Slot


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One row of the closing table."""

    step: str
    stage: str
    metrics: Mapping[str, float]
    seconds: float
    reused: bool
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run leaves: the last state, the models still live, and a row for each step."""

    folder: Path
    state: ModelState
    model_cache: ModelCache
    steps: tuple[StepResult, ...]
    seconds: float


class _Damaged(Exception):
    """A finished step turned out not to be what was saved; it has been set aside."""


def run(
    checked: CheckedChain,
    host: Host,
    *,
    runs: Path,
    name: str | None = None,
    until: str | None = None,
    start_from: str | None = None,
    fresh: bool = False,
    model_cache: ModelCache | None = None,
    tell: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Walk the chain, each link on the state the one before it left.

    Args:
        runs: Folder of all runs; finished steps are shared among those in it.
        name: Name of this run; the recipe's own where None.
        until: Stop after this step.
        start_from: Run again from this step on; what is before it must have finished.
        fresh: Run every step again.
        live: Models already in memory, for a chain that starts from them.
        tell: Hears what happens, for display.

    Raises:
        AlignerError: a step failed, a gate does not hold, or the run was stopped; what had finished stays.
    """
    recipe = checked.chain.recipe
    last = _number_of(until, "--until", checked) or len(checked.chain.steps)
    first = _number_of(start_from, "--from", checked)
    began = time.monotonic()
    walk = RunSession(
        checked=checked,
        host=host,
        folder=RunFolder((runs / (name or recipe.name)).absolute()),
        store=Store(runs.absolute()),
        model_cache=model_cache if model_cache is not None else ModelCache(),
        rerun_from=1 if fresh else first or len(checked.chain.steps) + 1,
        tell=tell,
        rank=ranks.rank(),
        world=ranks.world(),
    )
    with locked(walk.folder.path, rank=walk.rank):
        if walk.rank == 0:
            walk.folder.begin(recipe.to_yaml(), [link.step.name for link in checked.chain.steps])
        walk.note("run started", recipe=str(recipe.path or ""), until=until, fresh=fresh)
        while True:
            try:
                state, rows = _steps(walk, last, must_be_done=first - 1 if first else 0)
                break
            except _Damaged as damage:
                walk.note("damaged step set aside", what=str(damage))
        seconds = time.monotonic() - began
        walk.note("run finished", seconds=round(seconds, 3))
    tell(RunFinished(folder=walk.folder.path, seconds=seconds))
    return Outcome(
        folder=walk.folder.path,
        state=state,
        model_cache=walk.model_cache,
        steps=tuple(rows),
        seconds=seconds,
    )


def find_finished(checked: CheckedChain, runs: Path) -> list[Finished | None]:
    """For each link what is finished already, up to the first that would have to run."""
    store, state = Store(runs.absolute()), checked.chain.start
    past, found = {START: state}, list[Finished | None]()
    for link, plan in zip(checked.chain.steps, checked.plans, strict=True):
        facts = step_determinants(checked, link, plan, state, past)
        done = store.find(hash_json(facts))
        found.append(done)
        if done is None:
            break
        state = _hand_on(state, done, link)
        past[link.step.name] = state
    return found + [None] * (len(checked.chain.steps) - len(found))


def step_determinants(
    checked: CheckedChain,
    link: ChainStep,
    plan: Plan,
    state: ModelState,
    past: Mapping[str, ModelState],
) -> dict[str, Any]:
    """What determines the result of `link` on `state`."""
    looked_at = {name: past[name] for name in link.stage.all_earlier_steps}
    return determinants(
        link.stage,
        plan,
        state,
        plugin_version=link.plugin_version,
        seed=checked.chain.recipe.seed,
        past=looked_at,
    )


def _steps(
    walk: RunSession, last: int, *, must_be_done: int
) -> tuple[ModelState, list[StepResult]]:
    state, rows, reused = walk.checked.chain.start, list[StepResult](), list[Finished]()
    past: dict[str, ModelState] = {START: state}
    for link, plan in zip(walk.checked.chain.steps[:last], walk.checked.plans, strict=False):
        facts = step_determinants(walk.checked, link, plan, state, past)
        done = walk.store.find(hash_json(facts)) if link.number < walk.rerun_from else None
        if done is not None:
            reused.append(done)
            row = _reuse(walk, link, done)
        elif link.number <= must_be_done:
            raise ChainError(
                f"step {link.step.name!r} has not finished with these options",
                where=link.step.where,
                hint="run without --from: what has finished is reused anyway",
            )
        else:
            # What the first running step builds on is read from the disk: now it must be whole.
            _set_damaged_aside(walk, reused)
            reused = []
            done = run_step(walk, link, plan, state, past, facts)
            row = _row(walk, link, done, reused=False)
        state = _hand_on(state, done, link)
        past[link.step.name] = state
        walk.model_cache.keep_only(state)
        rows.append(row)
        _hold_to_gates(link, row)
    return state, rows


def _reuse(walk: RunSession, link: ChainStep, done: Finished) -> StepResult:
    walk.point(link, done.folder)
    walk.note("step reused", step=link.step.name, fingerprint=done.fingerprint)
    row = _row(walk, link, done, reused=True)
    walk.tell(
        StepReused(
            number=link.number,
            of=walk.of,
            step=row.step,
            stage=row.stage,
            metrics=row.metrics,
            folder=row.folder,
        )
    )
    return row


def _set_damaged_aside(walk: RunSession, reused: list[Finished]) -> None:
    for done in reused:
        if damage := done.damage(hashes=True):
            if walk.rank == 0:
                walk.store.set_aside(done)
            raise _Damaged(damage)


def _hand_on(state: ModelState, finished: Finished, link: ChainStep) -> ModelState:
    left = finished.state()
    slots: dict[Slot, Any] = {slot: left.get(slot) for slot in link.stage.provides}
    return state.put(link.step.name, **slots)


def _hold_to_gates(link: ChainStep, row: StepResult) -> None:
    broken = {}
    for metric, bound in link.step.gate.items():
        value = row.metrics.get(metric)
        if value is None or not bound.holds(value):
            found = "missing" if value is None else f"{value:.4g}"
            broken[metric] = f"{metric} is {found}, not {bound}"
    if broken:
        raise GateError(
            f"step {link.step.name!r} does not pass its gate: {'; '.join(broken.values())}",
            where=link.step.at(f"gate.{next(iter(broken))}"),
            hint=f"its result is kept in {row.folder}; change the gate or an earlier step, and run again",
        )


def _row(walk: RunSession, link: ChainStep, finished: Finished, *, reused: bool) -> StepResult:
    return StepResult(
        step=link.step.name,
        stage=link.stage.name,
        metrics=finished.metrics,
        seconds=finished.seconds,
        reused=reused,
        folder=walk.folder.link_of(link.number, link.step.name),
    )


def _number_of(step: str | None, option: str, checked: CheckedChain) -> int:
    if step is None:
        return 0
    names = [link.step.name for link in checked.chain.steps]
    if step not in names:
        raise ChainError(
            f"{option} names no step: {step!r}",
            where=str(checked.chain.recipe.path or "recipe"),
            hint=did_you_mean(step, names),
        )
    return names.index(step) + 1
