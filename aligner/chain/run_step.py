"""Run one step of a chain in its own folder, check its output, and save it at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aligner.chain.check import CheckedChain, plan_on_step_rows
from aligner.chain.events import Event, StepFailed, StepFinished, StepProgress, StepStarted
from aligner.chain.link import ChainStep
from aligner.errors import AlignerError, StageError, Stopped
from aligner.host import Host
from aligner.run import processes
from aligner.run.durable import hash_json, write_text
from aligner.run.folder import RunFolder, data_folder
from aligner.run.lock import locked
from aligner.run.process_state import seeded_process
from aligner.run.store import FinishedStep, Store, relocate
from aligner.stage import Plan, Progress, StepContext
from aligner.state import ModelCache, ModelState

_SAVE_TIMEOUT = 24 * 3600.0
"""Seconds that the other processes wait for the first one to save a step."""


@dataclass(frozen=True, kw_only=True)
class RunSession:
    """Values that are the same for all steps of a run."""

    checked: CheckedChain
    host: Host
    folder: RunFolder
    store: Store
    model_cache: ModelCache
    rerun_from: int
    """Number of the first step to run again even if it has finished."""
    on_event: Callable[[Event], None]
    rank: int
    world_size: int

    @property
    def of(self) -> int:
        """Number of steps of the chain."""
        return len(self.checked.chain.steps)

    def identify(self, step: ChainStep) -> dict[str, Any]:
        """Return the fields that every event of a step has."""
        stage = step.stage.name
        return {"number": step.number, "of": self.of, "step": step.name, "stage": stage}

    def note(self, event: str, **facts: Any) -> None:
        """Write an event to the journal, in rank 0 only."""
        if self.rank == 0:
            self.folder.note(event, **facts)

    def link(self, step: ChainStep, folder: Path) -> Path:
        """Link the step in the run folder to `folder`, in rank 0 only; return the link."""
        if self.rank == 0:
            return self.folder.link(step.number, step.name, folder)
        return self.folder.link_of(step.number, step.name)


def run_step(
    session: RunSession,
    step: ChainStep,
    plan: Plan,
    before: ModelState,
    past: Mapping[str, ModelState],
    facts: Mapping[str, Any],
) -> FinishedStep:
    """Run `step` on the state `before` and save its output.

    Args:
        session: The run.
        step: The step.
        plan: Its plan.
        before: The state after the previous step.
        past: The states after earlier steps, by name.
        facts: The determinants of the step; their hash is its fingerprint.
    """
    fingerprint = hash_json(facts)
    work = session.store.work_folder(fingerprint)
    with locked(session.store.lock_of(fingerprint), rank=session.rank):
        link = session.link(step, work)
        context = _context(session, step, plan, past, work)
        started = time.monotonic()
        try:
            session.note("step started", step=step.name, fingerprint=fingerprint)
            session.on_event(StepStarted(**session.identify(step), plan=plan, folder=link))
            if step.stage.options.rows_from():
                context = replace(context, plan=plan_on_step_rows(session.checked, step, past))
            _write_ledgers(context)
            session.host.started(context, before)
            with seeded_process(seed=context.seed):
                after = step.stage.run(before, context)
            _check_output(step, before, after)
            seconds = time.monotonic() - started
            finished = _save(session, step, fingerprint, context, after, facts, seconds)
        except BaseException as error:
            raise _failed(session, step, context, before, error, link) from error.__cause__
        # Observers find the files of the step in its finished folder.
        saved = relocate(after, work, finished.folder)
        session.host.finished(replace(context, folder=finished.folder), before, saved)
    session.on_event(
        StepFinished(
            **session.identify(step),
            metrics=finished.metrics,
            seconds=finished.seconds,
            folder=link,
        )
    )
    return finished


def _context(
    session: RunSession, step: ChainStep, plan: Plan, past: Mapping[str, ModelState], work: Path
) -> StepContext:
    def listener(progress: Progress) -> None:
        session.on_event(StepProgress(number=step.number, progress=progress))
        session.host.progress(context, progress)

    recipe = session.checked.chain.recipe
    context = StepContext(
        step=step.name,
        folder=work,
        recipe_folder=recipe.folder,
        where=step.where,
        option_lines=step.spec.lines,
        seed=recipe.seed,
        plan=plan,
        model_cache=session.model_cache,
        registry=session.checked.registry,
        memo=session.checked.memo,
        cache=data_folder(session.store.folder.parent),
        past={name: past[name] for name in step.stage.all_earlier_steps},
        listener=listener,
        rank=session.rank,
        world_size=session.world_size,
    )
    return context


def _write_ledgers(context: StepContext) -> None:
    """Write the ledgers of the data sets and the skipped rows next to the step's output."""
    if context.writes and context.plan.ledgers:
        ledgers = {name: dict(ledger) for name, ledger in context.plan.ledgers.items()}
        text = json.dumps(ledgers, indent=2, ensure_ascii=False)
        write_text(context.folder / "ledger.json", text)
    for name, rows in context.plan.skipped.items():
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
        if context.writes and lines:
            write_text(context.folder / f"skipped-{name}.jsonl", "\n".join(lines) + "\n")


def _save(
    session: RunSession,
    step: ChainStep,
    fingerprint: str,
    context: StepContext,
    after: ModelState,
    facts: Mapping[str, Any],
    seconds: float,
) -> FinishedStep:
    """Save the output of a step in rank 0, and wait for it in the other processes."""
    if session.rank == 0:
        for other in range(1, session.world_size):
            processes.wait_until(
                processes.done_marker(context.folder, other).exists,
                what=f"process {other} to end step {step.name!r}",
                seconds=_SAVE_TIMEOUT,
            )
        finished = session.store.commit(
            fingerprint,
            stage=step.stage.name,
            step=step.name,
            state=after,
            provides=step.stage.provides,
            determinants=facts,
            metrics=context.metrics,
            seconds=seconds,
        )
        session.link(step, finished.folder)
        session.note(
            "step finished", step=step.name, fingerprint=fingerprint, seconds=finished.seconds
        )
        return finished
    processes.done_marker(context.folder, session.rank).touch()
    processes.wait_until(
        lambda: session.store.find(fingerprint) is not None,
        what=f"step {step.name!r} to be saved",
        seconds=_SAVE_TIMEOUT,
    )
    saved = session.store.find(fingerprint)
    assert saved is not None, "only rank 0 moves a finished step, and it has just saved this one"
    return saved


def _check_output(step: ChainStep, before: ModelState, after: ModelState) -> None:
    """Check that the stage filled the slots it provides, with hashes, and changed no other."""
    provides = step.stage.provides
    missing = provides - after.filled()
    extra = after.changed_since(before) - provides
    if missing or extra:
        raise StageError(
            f"stage {step.stage.name!r} left {sorted(missing)} empty and changed {sorted(extra)}",
            where=step.where,
            hint=f"it declares provides={sorted(provides)}",
        )
    unhashed = sorted(slot for slot in provides if not after.get(slot).hash)
    if unhashed:
        raise StageError(
            f"stage {step.stage.name!r} filled {unhashed} without a content hash",
            where=step.where,
            hint="save with a function of aligner.kit.work, which computes it",
        )


def _failed(
    session: RunSession,
    step: ChainStep,
    context: StepContext,
    before: ModelState,
    error: BaseException,
    link: Path,
) -> BaseException:
    """Report that a step failed, and return the error to raise."""
    session.host.failed(context, before, error)
    session.note("step failed", step=step.name, error=type(error).__name__)
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(
            f"interrupted in step {step.name!r}; the steps before it are kept",
            where=step.where,
            hint="run the same command again to resume",
        )
    elif isinstance(error, AlignerError):
        error.locate(step.where)
    else:
        error.add_note(f"while running step {step.name!r} ({step.where})")
    session.on_event(StepFailed(**session.identify(step), error=error, folder=link))
    return error
