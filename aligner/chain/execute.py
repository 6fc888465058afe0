"""Run a checked chain: reuse finished steps, run the others on the models in memory."""

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
from aligner.run import processes
from aligner.run.durable import hash_json
from aligner.run.fingerprint import determinants
from aligner.run.folder import RunFolder
from aligner.run.lock import locked
from aligner.run.store import FinishedStep, Store
from aligner.stage import Plan
from aligner.state import ModelCache, ModelState


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One row of the summary."""

    step: str
    stage: str
    metrics: Mapping[str, float]
    seconds: float
    reused: bool
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Output of a run: the last state, the models in memory, and a row for each step."""

    folder: Path
    state: ModelState
    model_cache: ModelCache
    steps: tuple[StepResult, ...]
    seconds: float


class _DamagedStep(Exception):
    """The files of a finished step differ from what was saved; it has been moved away."""


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
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Run the steps in turn, each on the state after the step before it.

    Args:
        checked: The chain.
        host: The plugins, for their hooks.
        runs: Folder of all runs; they share finished steps.
        name: Name of this run; the name of the recipe by default.
        until: Stop after this step.
        start_from: Run this step and those after it again; those before it must have finished.
        fresh: Run every step again.
        model_cache: Models in memory already, for a chain that starts with them.
        on_event: Called with each event, for displays.

    Raises:
        AlignerError: A step failed, a gate is not met, or the run was interrupted. Finished steps stay.
    """
    recipe = checked.chain.recipe
    steps = checked.chain.steps
    last = step_number(until, "--until", checked) or len(steps)
    first = step_number(start_from, "--from", checked)
    started = time.monotonic()
    session = RunSession(
        checked=checked,
        host=host,
        folder=RunFolder((runs / (name or recipe.name)).absolute()),
        store=Store(runs.absolute()),
        model_cache=model_cache if model_cache is not None else ModelCache(),
        rerun_from=1 if fresh else first or len(steps) + 1,
        on_event=on_event,
        rank=processes.rank(),
        world_size=processes.world_size(),
    )
    with locked(session.folder.path, rank=session.rank):
        if session.rank == 0:
            session.folder.begin(recipe.to_yaml(), [step.name for step in steps])
        session.note("run started", recipe=str(recipe.path or ""), until=until, fresh=fresh)
        state, rows = _run_steps(session, last, must_be_done=first - 1 if first else 0)
        seconds = time.monotonic() - started
        session.note("run finished", seconds=round(seconds, 3))
    on_event(RunFinished(folder=session.folder.path, seconds=seconds))
    return Outcome(
        folder=session.folder.path,
        state=state,
        model_cache=session.model_cache,
        steps=tuple(rows),
        seconds=seconds,
    )


def find_finished(checked: CheckedChain, runs: Path) -> list[FinishedStep | None]:
    """Return the finished step for each step of the chain, up to the first that has to run."""
    store, state = Store(runs.absolute()), checked.chain.start
    past, found = {START: state}, list[FinishedStep | None]()
    for step, plan in zip(checked.chain.steps, checked.plans, strict=True):
        finished = store.find(hash_json(step_determinants(checked, step, plan, state, past)))
        found.append(finished)
        if finished is None:
            break
        state = _state_after(state, finished, step)
        past[step.name] = state
    return found + [None] * (len(checked.chain.steps) - len(found))


def step_determinants(
    checked: CheckedChain,
    step: ChainStep,
    plan: Plan,
    state: ModelState,
    past: Mapping[str, ModelState],
) -> dict[str, Any]:
    """Return everything that determines the result of `step` on `state`."""
    return determinants(
        step.stage,
        plan,
        state,
        plugin_version=step.plugin_version,
        seed=checked.chain.recipe.seed,
        past={name: past[name] for name in step.stage.all_earlier_steps},
    )


def _run_steps(
    session: RunSession, last: int, *, must_be_done: int
) -> tuple[ModelState, list[StepResult]]:
    while True:
        try:
            return _run_or_reuse(session, last, must_be_done=must_be_done)
        except _DamagedStep as damage:  # it is moved away, so the next attempt runs it again
            session.note("damaged step moved away", what=str(damage))


def _run_or_reuse(
    session: RunSession, last: int, *, must_be_done: int
) -> tuple[ModelState, list[StepResult]]:
    chain = session.checked.chain
    state, rows, reused = chain.start, list[StepResult](), list[FinishedStep]()
    past: dict[str, ModelState] = {START: state}
    for step, plan in zip(chain.steps[:last], session.checked.plans, strict=False):
        facts = step_determinants(session.checked, step, plan, state, past)
        finished = (
            session.store.find(hash_json(facts)) if step.number < session.rerun_from else None
        )
        if finished is not None:
            reused.append(finished)
            row = _reuse(session, step, finished)
        elif step.number <= must_be_done:
            raise ChainError(
                f"step {step.name!r} has not finished with these options",
                where=step.where,
                hint="run without --from: finished steps are reused anyway",
            )
        else:
            # The first step that runs reads the output of the reused ones, so they are verified now.
            _move_damaged_away(session, reused)
            reused = []
            finished = run_step(session, step, plan, state, past, facts)
            row = _row(session, step, finished, reused=False)
        state = _state_after(state, finished, step)
        past[step.name] = state
        session.model_cache.keep_only(state)
        rows.append(row)
        _check_gates(step, row)
    return state, rows


def _reuse(session: RunSession, step: ChainStep, finished: FinishedStep) -> StepResult:
    session.link(step, finished.folder)
    session.note("step reused", step=step.name, fingerprint=finished.fingerprint)
    row = _row(session, step, finished, reused=True)
    session.on_event(StepReused(**session.identify(step), metrics=row.metrics, folder=row.folder))
    return row


def _move_damaged_away(session: RunSession, reused: list[FinishedStep]) -> None:
    for finished in reused:
        if damage := finished.damage(hashes=True):
            if session.rank == 0:
                session.store.move_damaged_away(finished)
            raise _DamagedStep(damage)


def _state_after(state: ModelState, finished: FinishedStep, step: ChainStep) -> ModelState:
    """Return `state` with the slots that the finished step provides."""
    saved = finished.state()
    return state.put(step.name, **{slot: saved.get(slot) for slot in step.stage.provides})


def _check_gates(step: ChainStep, row: StepResult) -> None:
    broken = {}
    for metric, bound in step.spec.gate.items():
        value = row.metrics.get(metric)
        if value is None or not bound.holds(value):
            found = "missing" if value is None else f"{value:.4g}"
            broken[metric] = f"{metric} is {found}, not {bound}"
    if broken:
        raise GateError(
            f"step {step.name!r} does not pass its gate: {'; '.join(broken.values())}",
            where=step.spec.at(f"gate.{next(iter(broken))}"),
            hint=f"its result is kept in {row.folder}; change the gate or an earlier step, and run again",
        )


def _row(
    session: RunSession, step: ChainStep, finished: FinishedStep, *, reused: bool
) -> StepResult:
    return StepResult(
        step=step.name,
        stage=step.stage.name,
        metrics=finished.metrics,
        seconds=finished.seconds,
        reused=reused,
        folder=session.folder.link_of(step.number, step.name),
    )


def step_number(step: str | None, option: str, checked: CheckedChain) -> int:
    """Return the number of a step, or 0 without a step; `option` names it in the error."""
    if step is None:
        return 0
    names = [known.name for known in checked.chain.steps]
    if step not in names:
        raise ChainError(
            f"{option}: there is no step {step!r}",
            where=str(checked.chain.recipe.path or "recipe"),
            hint=did_you_mean(step, names),
        )
    return names.index(step) + 1
