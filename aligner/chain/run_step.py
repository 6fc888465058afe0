"""Run one link of a chain: in its own folder, held to what it declared, saved the moment it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aligner.chain.check import CheckedChain, planned_on
from aligner.chain.events import Event, StepFailed, StepFinished, StepProgress, StepStarted
from aligner.chain.link import ChainStep
from aligner.errors import AlignerError, StageError, Stopped
from aligner.host import Host
from aligner.run import ranks
from aligner.run.durable import hash_json, write_text
from aligner.run.folder import RunFolder, data_folder
from aligner.run.lock import locked
from aligner.run.random_state import kept_as_found
from aligner.run.store import Finished, Store, relocate
from aligner.stage import Plan, Progress, StepContext
from aligner.state import ModelCache, ModelState

_PATIENCE = 24 * 3600.0
"""Seconds that the other processes wait for the first one to save a step."""


@dataclass(frozen=True, kw_only=True)
class RunSession:
    """What stays the same from step to step."""

    checked: CheckedChain
    host: Host
    folder: RunFolder
    store: Store
    model_cache: ModelCache
    rerun_from: int
    """Number of the first step to run again though it may have finished."""
    tell: Callable[[Event], None]
    rank: int
    world: int

    @property
    def of(self) -> int:
        return len(self.checked.chain.links)

    def note(self, event: str, **facts: Any) -> None:
        """Write the journal, from the first process alone."""
        if self.rank == 0:
            self.folder.note(event, **facts)

    def point(self, link: ChainStep, folder: Path) -> Path:
        """Link the step's place in the run folder to `folder`, from the first process alone."""
        if self.rank == 0:
            return self.folder.point(link.number, link.step.name, folder)
        return self.folder.link_of(link.number, link.step.name)


def run_step(
    walk: RunSession,
    link: ChainStep,
    plan: Plan,
    before: ModelState,
    past: Mapping[str, ModelState],
    facts: Mapping[str, Any],
) -> Finished:
    """Run `link` on the state `before` and save what it leaves.

    Args:
        past: The states of the earlier steps by name.
        facts: What determines the step; their hash is its fingerprint.
    """
    key, step = hash_json(facts), link.step.name
    work = walk.store.workplace(key)
    with locked(walk.store.lock_of(key), rank=walk.rank):
        shown = walk.point(link, work)
        here = _run_of(walk, link, plan, past, work)
        began = time.monotonic()
        try:
            walk.note("step started", step=step, fingerprint=key)
            walk.tell(
                StepStarted(
                    number=link.number,
                    of=walk.of,
                    step=step,
                    stage=link.stage.name,
                    plan=plan,
                    folder=shown,
                )
            )
            if link.stage.options.rows_from():
                here = replace(here, plan=planned_on(walk.checked, link, past))
            _write_accounts(here)
            walk.host.started(here, before)
            with kept_as_found(seed=here.seed):
                after = link.stage.run(before, here)
            _check_kept(link, before, after)
            finished = _commit(walk, link, key, here, after, facts, time.monotonic() - began)
        except BaseException as error:
            raise _failed(walk, link, here, before, error, shown) from error.__cause__
        # What the step wrote lies in its finished folder by now: observers must find it.
        there = relocate(after, work, finished.folder)
        walk.host.finished(replace(here, folder=finished.folder), before, there)
    walk.tell(
        StepFinished(
            number=link.number,
            of=walk.of,
            step=step,
            stage=link.stage.name,
            metrics=finished.metrics,
            seconds=finished.seconds,
            folder=shown,
        )
    )
    return finished


def _run_of(
    walk: RunSession, link: ChainStep, plan: Plan, past: Mapping[str, ModelState], work: Path
) -> StepContext:
    def hear(progress: Progress) -> None:
        walk.tell(StepProgress(number=link.number, progress=progress))
        walk.host.progress(here, progress)

    recipe = walk.checked.chain.recipe
    here = StepContext(
        step=link.step.name,
        folder=work,
        recipe_folder=recipe.folder,
        where=link.step.where,
        option_lines=link.step.lines,
        seed=recipe.seed,
        plan=plan,
        model_cache=walk.model_cache,
        registry=walk.checked.registry,
        memo=walk.checked.memo,
        cache=data_folder(walk.store.folder.parent),
        past={name: past[name] for name in link.stage.all_earlier_steps},
        listener=hear,
        rank=walk.rank,
        world=walk.world,
    )
    return here


def _write_accounts(here: StepContext) -> None:
    """Leave beside the result what became of every row, and the rows that were skipped."""
    if here.writes and here.plan.ledgers:
        ledgers = {name: dict(ledger) for name, ledger in here.plan.ledgers.items()}
        write_text(here.folder / "ledger.json", json.dumps(ledgers, indent=2, ensure_ascii=False))
    for name, rows in here.plan.skipped.items():
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
        if here.writes and lines:
            write_text(here.folder / f"skipped-{name}.jsonl", "\n".join(lines) + "\n")


def _commit(
    walk: RunSession,
    link: ChainStep,
    key: str,
    here: StepContext,
    after: ModelState,
    facts: Mapping[str, Any],
    seconds: float,
) -> Finished:
    if walk.rank == 0:
        for other in range(1, walk.world):
            ranks.wait_until(
                ranks.arrived(here.folder, other).exists,
                what=f"process {other} to end step {link.step.name!r}",
                seconds=_PATIENCE,
            )
        finished = walk.store.commit(
            key,
            stage=link.stage.name,
            step=link.step.name,
            state=after,
            provides=link.stage.provides,
            determinants=facts,
            metrics=here.metrics,
            seconds=seconds,
        )
        walk.point(link, finished.folder)
        walk.note("step finished", step=link.step.name, fingerprint=key, seconds=finished.seconds)
        return finished
    ranks.arrived(here.folder, walk.rank).touch()
    ranks.wait_until(
        lambda: walk.store.find(key) is not None,
        what=f"step {link.step.name!r} to be saved",
        seconds=_PATIENCE,
    )
    saved = walk.store.find(key)
    assert saved is not None, "it was there a moment ago, and only the first process moves it"
    return saved


def _check_kept(link: ChainStep, before: ModelState, after: ModelState) -> None:
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


def _failed(
    walk: RunSession,
    link: ChainStep,
    here: StepContext,
    before: ModelState,
    error: BaseException,
    shown: Path,
) -> BaseException:
    """Tell everybody that a step ended badly, and give back what is to be raised."""
    step = link.step
    walk.host.failed(here, before, error)
    walk.note("step failed", step=step.name, error=type(error).__name__)
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(
            f"stopped in step {step.name!r}; every step before it is finished and kept",
            where=step.where,
            hint="give the same command again to go on from there",
        )
    elif isinstance(error, AlignerError):
        error.locate(step.where)
    else:
        error.add_note(f"while running step {step.name!r} ({step.where})")
    walk.tell(
        StepFailed(
            number=link.number,
            of=walk.of,
            step=step.name,
            stage=link.stage.name,
            error=error,
            folder=shown,
        )
    )
    return error
