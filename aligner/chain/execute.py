"""Run a checked chain: reuse what is done, run the rest on live models, save each step as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aligner.chain.events import (
    Event,
    RunFinished,
    StepFailed,
    StepFinished,
    StepProgress,
    StepReused,
    StepStarted,
)
from aligner.chain.link import START, Link
from aligner.chain.look import Checked
from aligner.errors import AlignerError, ChainError, GateError, StageError, Stopped, did_you_mean
from aligner.host import Host
from aligner.run import ranks
from aligner.run.fingerprint import determinants
from aligner.run.durable import hash_json
from aligner.run.folder import RunFolder
from aligner.run.lock import locked
from aligner.run.random_state import kept_as_found
from aligner.run.store import Finished, Store, verify
from aligner.stage import Plan, Progress, Run
from aligner.state import Live, ModelState, Slot

_PATIENCE = 24 * 3600.0
"""Seconds that the other processes wait for the first one to save a step."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One row of the closing table."""

    step: str
    stage: str
    figures: Mapping[str, float]
    seconds: float
    reused: bool
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run leaves: the last state, the models still live, and a row for each step."""

    folder: Path
    state: ModelState
    live: Live
    steps: tuple[StepResult, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """What stays the same from step to step."""

    checked: Checked
    host: Host
    folder: RunFolder
    store: Store
    live: Live
    rerun_from: int
    """Number of the first step to run again though it may have finished."""
    tell: Callable[[Event], None]
    rank: int
    world: int


def run(
    checked: Checked,
    host: Host,
    *,
    runs: Path,
    name: str | None = None,
    until: str | None = None,
    start_from: str | None = None,
    fresh: bool = False,
    live: Live | None = None,
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
    """
    recipe = checked.chain.recipe
    last = _number_of(until, "--until", checked) or len(checked.chain.links)
    first = _number_of(start_from, "--from", checked)
    folder = RunFolder((runs / (name or recipe.name)).absolute())
    began = time.monotonic()
    rank, world = ranks.rank(), ranks.world()
    walk = _Walk(
        checked=checked,
        host=host,
        folder=folder,
        store=Store(runs.absolute()),
        live=live if live is not None else Live(),
        rerun_from=1 if fresh else first or len(checked.chain.links) + 1,
        tell=tell,
        rank=rank,
        world=world,
    )
    with locked(folder.path, rank=rank):
        if rank == 0:
            folder.begin(recipe.to_yaml(), [link.step.name for link in checked.chain.links])
            folder.note("run started", recipe=str(recipe.path or ""), until=until, fresh=fresh)
        state, rows = _walk(walk, last, must_be_done=first - 1 if first else 0)
        seconds = time.monotonic() - began
        if rank == 0:
            folder.note("run finished", seconds=round(seconds, 3))
    tell(RunFinished(folder=folder.path, seconds=seconds))
    return Outcome(
        folder=folder.path, state=state, live=walk.live, steps=tuple(rows), seconds=seconds
    )


def _walk(walk: _Walk, last: int, *, must_be_done: int) -> tuple[ModelState, list[StepResult]]:
    state, rows = walk.checked.chain.start, list[StepResult]()
    past: dict[str, ModelState] = {START: state}
    verified = False
    for link, plan in zip(walk.checked.chain.links[:last], walk.checked.plans, strict=False):
        facts = _determinants(walk, link, plan, state, past)
        done = walk.store.find(hash_json(facts)) if link.number < walk.rerun_from else None
        if done is None and link.number <= must_be_done:
            raise ChainError(
                f"step {link.step.name!r} has not finished with these options",
                where=link.step.where,
                hint="run without --from: what has finished is reused anyway",
            )
        if done is None and not verified:
            # What the first running step builds on is read from the disk: now it must be whole.
            _verify_all(walk, rows)
            verified = True
        result = (
            _reuse(walk, link, done)
            if done is not None
            else _run_link(walk, link, plan, state, past, facts)
        )
        finished, row = result
        state = _hand_on(state, finished, link)
        past[link.step.name] = state
        walk.live.keep_only(state)
        rows.append(row)
        _hold_to_gates(link, row)
    return state, rows


def _determinants(
    walk: _Walk, link: Link, plan: Plan, state: ModelState, past: Mapping[str, ModelState]
) -> dict[str, Any]:
    looked_at = {name: past[name] for name in link.stage.looks_back}
    seed = walk.checked.chain.recipe.seed
    return determinants(link.stage, plan, state, maker=link.maker, seed=seed, past=looked_at)


def _reuse(walk: _Walk, link: Link, done: Finished) -> tuple[Finished, StepResult]:
    of = len(walk.checked.chain.links)
    if walk.rank == 0:
        link_path = walk.folder.point(link.number, link.step.name, done.folder)
        walk.folder.note("step reused", step=link.step.name, fingerprint=done.fingerprint)
    else:
        link_path = walk.folder.link_of(link.number, link.step.name)
    walk.tell(
        StepReused(
            number=link.number,
            of=of,
            step=link.step.name,
            stage=link.stage.name,
            figures=done.figures,
            folder=link_path,
        )
    )
    return done, _row(link, done, link_path, reused=True)


def _run_link(
    walk: _Walk,
    link: Link,
    plan: Plan,
    before: ModelState,
    past: Mapping[str, ModelState],
    facts: Mapping[str, Any],
) -> tuple[Finished, StepResult]:
    key = hash_json(facts)
    work = walk.store.workplace(key)
    of, step = len(walk.checked.chain.links), link.step.name
    with locked(work.with_suffix(".lock"), rank=walk.rank):
        shown = walk.folder.point(link.number, step, work) if walk.rank == 0 else work
        here = _run_of(walk, link, plan, past, work)
        if walk.rank == 0:
            walk.folder.note("step started", step=step, fingerprint=key)
        walk.tell(
            StepStarted(
                number=link.number, of=of, step=step, stage=link.stage.name, plan=plan, folder=shown
            )
        )
        began = time.monotonic()
        try:
            walk.host.started(here, before)
            with kept_as_found(seed=here.seed):
                after = link.stage.run(before, here)
            _check_kept(link, before, after)
            finished = _commit(walk, link, key, here, after, facts, time.monotonic() - began)
        except BaseException as error:
            raise _failed(walk, link, here, before, error, shown) from None
        walk.host.finished(here, before, after)
    row = _row(link, finished, walk.folder.link_of(link.number, step), reused=False)
    walk.tell(
        StepFinished(
            number=link.number,
            of=of,
            step=step,
            stage=link.stage.name,
            figures=finished.figures,
            seconds=finished.seconds,
            folder=row.folder,
        )
    )
    return finished, row


def _run_of(walk: _Walk, link: Link, plan: Plan, past: Mapping[str, ModelState], work: Path) -> Run:
    def hear(progress: Progress) -> None:
        walk.tell(StepProgress(number=link.number, progress=progress))
        walk.host.progress(here, progress)

    recipe = walk.checked.chain.recipe
    here = Run(
        step=link.step.name,
        folder=work,
        recipe_folder=recipe.folder,
        where=link.step.where,
        option_lines=link.step.lines,
        seed=recipe.seed,
        plan=plan,
        live=walk.live,
        offers=walk.checked.offers,
        scratch=walk.checked.scratch,
        past={name: past[name] for name in link.stage.looks_back},
        listener=hear,
        rank=walk.rank,
        world=walk.world,
    )
    return here


def _commit(
    walk: _Walk,
    link: Link,
    key: str,
    here: Run,
    after: ModelState,
    facts: Mapping[str, Any],
    seconds: float,
) -> Finished:
    if walk.rank == 0:
        finished = walk.store.commit(
            key,
            stage=link.stage.name,
            step=link.step.name,
            state=after,
            provides=link.stage.provides,
            determinants=facts,
            figures=here.figures,
            seconds=seconds,
        )
        walk.folder.point(link.number, link.step.name, finished.folder)
        walk.folder.note(
            "step finished", step=link.step.name, fingerprint=key, seconds=finished.seconds
        )
        return finished
    ranks.wait_until(
        lambda: walk.store.find(key) is not None,
        what=f"step {link.step.name!r} to be saved",
        seconds=_PATIENCE,
    )
    finished = walk.store.find(key)
    assert finished is not None, "it was there a moment ago, and only the first process moves it"
    return finished


def _failed(
    walk: _Walk, link: Link, here: Run, before: ModelState, error: BaseException, shown: Path
) -> BaseException:
    """Tell everybody that a step ended badly, and give back what is to be raised."""
    step = link.step
    error.add_note(f"while running step {step.name!r} ({step.where})")
    walk.host.failed(here, before, error)
    walk.tell(
        StepFailed(
            number=link.number,
            of=len(walk.checked.chain.links),
            step=step.name,
            stage=link.stage.name,
            error=error,
            folder=shown,
        )
    )
    if walk.rank == 0:
        walk.folder.note("step failed", step=step.name, error=type(error).__name__)
    if isinstance(error, KeyboardInterrupt):
        return Stopped(
            f"stopped in step {step.name!r}; every step before it is finished and kept",
            where=step.where,
            hint="give the same command again to go on from there",
        )
    if isinstance(error, AlignerError) and not error.where:
        error.where = step.where
    return error


def _check_kept(link: Link, before: ModelState, after: ModelState) -> None:
    """Hold a stage to its word: it filled what it provides, and touched nothing else."""
    provides = link.stage.provides
    missing = provides - after.filled()
    extra = after.changed_since(before) - provides
    if missing or extra:
        raise StageError(
            f"stage {link.stage.name!r} left {sorted(missing)} empty and changed {sorted(extra)}",
            where=link.step.where,
            hint=f"it declares provides={sorted(provides)}",
        )
    unhashed = sorted(slot for slot in provides if not after.get(slot).hash)
    if unhashed:
        raise StageError(
            f"stage {link.stage.name!r} filled {unhashed} without a content hash",
            where=link.step.where,
            hint="save with aligner.models or aligner.data, which compute it",
        )


def _hand_on(state: ModelState, finished: Finished, link: Link) -> ModelState:
    left = finished.state()
    slots: dict[Slot, Any] = {slot: left.get(slot) for slot in link.stage.provides}
    return state.put(link.step.name, **slots)  # type: ignore[misc]  # Slot names are str keys


def _verify_all(walk: _Walk, rows: list[StepResult]) -> None:
    for row in rows:
        done = next((one for _, name, one in walk.folder.finished() if name == row.step), None)
        if done is None:
            continue
        try:
            verify(done)
        except StageError:
            if walk.rank == 0:
                walk.store.set_aside(done)
            raise


def _hold_to_gates(link: Link, row: StepResult) -> None:
    broken = []
    for figure, bound in link.step.gate.items():
        value = row.figures.get(figure)
        if value is None or not bound.holds(value):
            broken.append(
                f"{figure} is {'missing' if value is None else f'{value:.4g}'}, not {bound}"
            )
    if broken:
        raise GateError(
            f"step {link.step.name!r} does not pass its gate: {'; '.join(broken)}",
            where=next(
                (w for k, w in link.step.lines.items() if k.startswith("gate")), link.step.where
            ),
            hint=f"its result is kept in {row.folder}; change the gate or an earlier step, and run again",
        )


def _row(link: Link, finished: Finished, folder: Path, *, reused: bool) -> StepResult:
    return StepResult(
        step=link.step.name,
        stage=link.stage.name,
        figures=finished.figures,
        seconds=finished.seconds,
        reused=reused,
        folder=folder,
    )


def _number_of(step: str | None, option: str, checked: Checked) -> int:
    if step is None:
        return 0
    names = [link.step.name for link in checked.chain.links]
    if step not in names:
        raise ChainError(
            f"{option} names no step: {step!r}",
            where=str(checked.chain.recipe.path or "recipe"),
            hint=did_you_mean(step, names),
        )
    return names.index(step) + 1
