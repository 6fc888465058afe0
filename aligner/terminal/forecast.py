"""Forecast which steps of a checked chain a run would reuse, and why the others would run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aligner.chain import CheckedChain
from aligner.chain.execute import find_finished, step_determinants, step_number
from aligner.chain.link import START, ChainStep
from aligner.errors import ChainError
from aligner.run.durable import hash_json
from aligner.run.folder import RunFolder, all_runs
from aligner.run.store import FinishedStep, Store
from aligner.state import ModelState
from aligner.terminal.text import format_number

ForecastStatus = Literal["reused", "runs", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Action of a run for one step."""

    status: ForecastStatus
    run: str = ""
    """Run that has the finished step, or that the step was compared with."""
    reason: str = ""
    differences: tuple[str, ...] = ()
    """Changes since that run."""


def forecast(
    checked: CheckedChain,
    runs: Path,
    *,
    name: str,
    until: str | None = None,
    start_from: str | None = None,
    fresh: bool = False,
) -> list[Forecast]:
    """Return a forecast for each step of the chain.

    Raises:
        ChainError: `until` or `start_from` is not a step, or a step before `start_from` has not
            finished.
    """
    steps = checked.chain.steps
    last = step_number(until, "--until", checked) or len(steps)
    first = step_number(start_from, "--from", checked)
    finished = find_finished(checked, runs)
    rerun_from = 1 if fresh else first or len(steps) + 1
    forecasts: list[Forecast] = []
    for step, done in zip(steps, finished, strict=True):
        if step.number > last:
            forecasts.append(Forecast(status="skipped", reason=f"after --until {until}"))
        elif step.number >= rerun_from:
            option = "--fresh" if fresh else f"--from {start_from}"
            forecasts.append(Forecast(status="runs", reason=f"requested by {option}"))
        elif done is not None:
            forecasts.append(Forecast(status="reused", run=_run_with(done, runs, prefer=name)))
        elif step.number < first:
            raise ChainError(
                f"step {step.name!r} has not finished with these options",
                where=step.where,
                hint="run without --from: finished steps are reused anyway",
            )
        elif step.number == 1 or finished[step.number - 2] is not None:
            forecasts.append(_first_unfinished(checked, step, finished, runs, name))
        else:
            names = [s.name for s, d in zip(steps, finished, strict=True) if d is None]
            forecasts.append(Forecast(status="runs", reason=f"step {names[0]!r} before it runs"))
    return forecasts


def _first_unfinished(
    checked: CheckedChain,
    step: ChainStep,
    finished: list[FinishedStep | None],
    runs: Path,
    name: str,
) -> Forecast:
    """Return the forecast of the first unfinished step, compared with the most similar run."""
    state, past = _states(checked, finished)
    determinants = step_determinants(checked, step, checked.plans[step.number - 1], state, past)
    key = hash_json(determinants)
    if (Store(runs.absolute()).folder / f"{key[:16]}.partial").is_dir():
        return Forecast(status="runs", reason="resumes from a checkpoint")
    earlier = [
        (folder.name != name, len(changes), folder.name, changes)
        for folder, other in _steps_named(step.name, runs)
        if other.stage == step.stage.name
        for changes in [tuple(differences(other.determinants, determinants))]
        if changes
    ]
    if not earlier:
        return Forecast(status="runs", reason="not run yet")
    # This run's own step explains best, and after it the one that is most alike.
    _, _, run, changes = min(earlier)
    return Forecast(
        status="runs", run=run, reason=f"changed since run {run!r}", differences=changes
    )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Describe each change between two steps' determinants."""
    before, after = dict(_flatten(then)), dict(_flatten(now))
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield _describe(path, before.get(path, "nothing"), after.get(path, "nothing"))


def _describe(path: tuple[str, ...], then: Any, now: Any) -> str:
    group, name = path[0], ".".join(path[1:])
    if group == "slots":
        return f"incoming {name}"
    if group == "past":
        return f"{path[-1]} of step {path[1]!r}" if len(path) > 2 else f"output of step {name!r}"
    if group == "step_rows":
        return f"rows generated for {name.partition('.')[0]!r}"
    if group == "data":
        return f"content of the data {name!r}"
    change = f"{_format(then)} → {_format(now)}"
    return f"{name} {change}" if group in ("options", "versions") else f"{group} {change}"


def _format(value: Any) -> str:
    if isinstance(value, float):
        return format_number(value)
    text = {None: "none", True: "true", False: "false"}.get(value, str(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


def _flatten(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flatten(below, (*path, str(key)))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for number, below in enumerate(value):
            yield from _flatten(below, (*path, str(number)))
    else:
        # A tuple comes back from JSON as a list.
        yield path, str(list(value)) if isinstance(value, list | tuple) else value


def _states(
    checked: CheckedChain, finished: list[FinishedStep | None]
) -> tuple[ModelState, dict[str, ModelState]]:
    """Return the state before the first unfinished step, and the state after each earlier one."""
    state = checked.chain.start
    past = {START: state}
    for step, done in zip(checked.chain.steps, finished, strict=True):
        if done is None:
            break
        output = done.state()
        state = state.put(step.name, **{s: output.get(s) for s in step.stage.provides})
        past[step.name] = state
    return state, past


def _steps_named(step: str, runs: Path) -> Iterator[tuple[RunFolder, FinishedStep]]:
    for folder in all_runs(runs):
        for _, name, finished in folder.finished():
            if name == step:
                yield folder, finished


def _run_with(done: FinishedStep, runs: Path, *, prefer: str) -> str:
    """Return the run that has a finished step, `prefer` among several; empty if none has."""
    names = [
        folder.name
        for folder in all_runs(runs)
        if any(step.fingerprint == done.fingerprint for _, _, step in folder.finished())
    ]
    return prefer if prefer in names else next(iter(names), "")
