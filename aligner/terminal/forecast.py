"""Say which steps of a checked chain are done already, and why the others would run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aligner.chain import CheckedChain
from aligner.chain.execute import find_finished, step_determinants
from aligner.chain.link import START, ChainStep
from aligner.errors import ChainError, did_you_mean
from aligner.run.durable import hash_json
from aligner.run.folder import RunFolder, all_runs
from aligner.run.store import FinishedStep, Store
from aligner.state import ModelState
from aligner.terminal.text import format_number

Standing = Literal["reused", "runs", "left out"]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run would do with one step."""

    standing: Standing
    run: str = ""
    """The run that has the finished step, or the one it was compared with."""
    because: str = ""
    changed: tuple[str, ...] = ()
    """What is not as it was in that run."""


def forecast(
    checked: CheckedChain,
    runs: Path,
    *,
    name: str,
    until: str | None = None,
    start_from: str | None = None,
    fresh: bool = False,
) -> list[Forecast]:
    """One answer for each link of the chain.

    Raises:
        ChainError: `until` or `start_from` names no step, or a step before `start_from` is not done.
    """
    links = checked.chain.steps
    last = _number(until, "--until", checked) or len(links)
    first = _number(start_from, "--from", checked)
    done = find_finished(checked, runs)
    again = 1 if fresh else first or len(links) + 1
    answers: list[Forecast] = []
    for link, one in zip(links, done, strict=True):
        if link.number > last:
            answers.append(Forecast(standing="left out", because=f"after --until {until}"))
        elif link.number >= again:
            asked = "--fresh" if fresh else f"--from {start_from}"
            answers.append(Forecast(standing="runs", because=f"asked for by {asked}"))
        elif one is not None:
            answers.append(Forecast(standing="reused", run=_holder(one, runs, prefer=name)))
        elif link.number < first:
            raise ChainError(
                f"step {link.name!r} has not finished with these options",
                where=link.where,
                hint="run without --from: finished steps are reused anyway",
            )
        elif link.number == 1 or done[link.number - 2] is not None:
            answers.append(_why(checked, link, done, runs, name))
        else:
            before = next(a.name for a, d in zip(links, done, strict=True) if d is None)
            answers.append(Forecast(standing="runs", because=f"{before!r} before it runs"))
    return answers


def _why(
    checked: CheckedChain, link: ChainStep, done: list[FinishedStep | None], runs: Path, name: str
) -> Forecast:
    """Why the first link that is not finished would run."""
    state, past = _states(checked, done)
    facts = step_determinants(checked, link, checked.plans[link.number - 1], state, past)
    key = hash_json(facts)
    if (Store(runs.absolute()).folder / f"{key[:16]}.partial").is_dir():
        return Forecast(standing="runs", because="begun earlier, and goes on")
    earlier = [
        (folder.name != name, len(changes), folder.name, changes)
        for folder, step in _called(link.name, runs)
        if step.stage == link.stage.name
        for changes in [tuple(differences(step.determinants, facts))]
        if changes
    ]
    if not earlier:
        return Forecast(standing="runs", because="not done yet")
    # This run's own step explains best, and after it the one that is most alike.
    _, _, run, changes = min(earlier)
    return Forecast(standing="runs", run=run, because=f"not as in {run!r}", changed=changes)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What of a step's determinants has changed, in words."""
    before, after = dict(_flat(then)), dict(_flat(now))
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield _in_words(path, before.get(path, "nothing"), after.get(path, "nothing"))


def _in_words(path: tuple[str, ...], then: Any, now: Any) -> str:
    group, name = path[0], ".".join(path[1:])
    if group == "slots":
        return f"the {name} that comes in"
    if group == "past":
        return f"the {path[-1]} that {path[1]!r} left" if len(path) > 2 else f"what {name!r} left"
    if group == "made":
        return f"the rows made for {name.partition('.')[0]!r}"
    if group == "data":
        return f"the content of data {name!r}"
    shown = f"{_shown(then)} → {_shown(now)}"
    return f"{name} {shown}" if group in ("options", "versions") else f"{group} {shown}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return format_number(value)
    text = {None: "none", True: "true", False: "false"}.get(value, str(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(below, (*path, str(key)))
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        for number, below in enumerate(value):
            yield from _flat(below, (*path, str(number)))
    else:
        # A tuple comes back from JSON as a list.
        yield path, str(list(value)) if isinstance(value, list | tuple) else value


def _states(
    checked: CheckedChain, done: list[FinishedStep | None]
) -> tuple[ModelState, dict[str, ModelState]]:
    """The state that the first unfinished link starts from, and those of the steps before it."""
    state = checked.chain.start
    past = {START: state}
    for link, one in zip(checked.chain.steps, done, strict=True):
        if one is None:
            break
        left = one.state()
        state = state.put(link.name, **{s: left.get(s) for s in link.stage.provides})
        past[link.name] = state
    return state, past


def _called(step: str, runs: Path) -> Iterator[tuple[RunFolder, FinishedStep]]:
    for folder in all_runs(runs):
        for _, name, one in folder.finished():
            if name == step:
                yield folder, one


def _holder(one: FinishedStep, runs: Path, *, prefer: str) -> str:
    """The run that links to a finished step, `prefer` among several; empty where none does."""
    holders = [
        folder.name
        for folder in all_runs(runs)
        if any(other.fingerprint == one.fingerprint for _, _, other in folder.finished())
    ]
    return prefer if prefer in holders else next(iter(holders), "")


def _number(step: str | None, option: str, checked: CheckedChain) -> int:
    names = [link.name for link in checked.chain.steps]
    if step is not None and step not in names:
        raise ChainError(
            f"{option} names no step: {step!r}",
            where=checked.chain.recipe.where,
            hint=did_you_mean(step, names),
        )
    return names.index(step) + 1 if step is not None else 0
