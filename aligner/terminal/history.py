"""Look at the runs of a folder: what each has finished, how it ended, and what no run has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aligner.data.store.cache import Cache
from aligner.run.folder import RunFolder, all_runs, data_folder
from aligner.run.lock import LOCK, is_held
from aligner.run.store import Store, read_finished
from aligner.state import ModelState

DATA_STAYS = 30
"""Days for which prepared data that nothing uses is kept."""
_DAY = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class PastStep:
    """A finished step of a run."""

    number: int
    step: str
    stage: str
    metrics: dict[str, float]
    seconds: float
    octets: int
    shared: bool
    """Whether another run has it too."""
    folder: str


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A run as it stands."""

    name: str
    folder: str
    status: str
    """`finished`, `running`, `stopped`, `failed in STEP`, or `interrupted`."""
    begun: str
    """When it was first started, in UTC."""
    last: str
    """When it last wrote in its journal, in UTC."""
    asked: int
    """How many steps the recipe has."""
    steps: tuple[PastStep, ...]

    @property
    def octets(self) -> int:
        return sum(step.octets for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A folder in the store that no run leads to."""

    folder: Path
    what: str
    octets: int


def past_runs(runs: Path) -> list[PastRun]:
    """Every run under `runs`, by name."""
    folders = all_runs(runs)
    held = [one.fingerprint for folder in folders for _, _, one in folder.finished()]
    return [_past(folder, held) for folder in folders]


def leftovers(runs: Path) -> Iterator[Leftover]:
    """Finished, begun and damaged steps in the store that no run needs."""
    store = Store(runs.absolute()).folder
    needed = _needed(runs, store.resolve())
    for folder in sorted(store.iterdir()) if store.is_dir() else []:
        if (
            folder.name.startswith(".")
            or folder.resolve() in needed
            or is_held(lock_of(folder) / LOCK)
        ):
            continue
        done = read_finished(folder) if not folder.suffix else None
        what = "begun" if folder.suffix == ".partial" else "damaged"
        if done is not None:
            what = f"finished {done.step!r}"
        yield Leftover(folder=folder, what=what, octets=_octets(folder))


def old_data(runs: Path, now: float) -> Iterator[Leftover]:
    """Prepared data that no run or check has used for a month, and what was left half made."""
    for folder, last in Cache(data_folder(runs)).unused(now - DATA_STAYS * _DAY):
        what = "begun data" if last is None else f"data of {(now - last) / _DAY:.0f} days ago"
        yield Leftover(folder=folder, what=what, octets=_octets(folder))


def data_octets(runs: Path) -> int:
    """Bytes of all prepared data."""
    return _octets(data_folder(runs))


def lock_of(folder: Path) -> Path:
    """The folder that is locked while the step that works in `folder` runs."""
    return Store(folder.parent.parent).lock_of(folder.name.partition(".")[0])


def _needed(runs: Path, store: Path) -> set[Path]:
    """Folders of the store that a run leads to, and those whose models these are made of."""
    needed: set[Path] = set()
    wanted = [
        link.resolve()
        for folder in all_runs(runs)
        if (folder.path / "steps").is_dir()
        for link in (folder.path / "steps").iterdir()
    ]
    while wanted:
        folder = wanted.pop()
        if folder in needed:
            continue
        needed.add(folder)
        done = read_finished(folder)
        state = done.state() if done is not None else ModelState()
        for slot in state.filled():
            artifact = state.get(slot)
            for path in (artifact.path, *artifact.adapters):
                inside = Path(path).is_relative_to(store)
                wanted += [store / Path(path).relative_to(store).parts[0]] if inside else []
    return needed


def _past(folder: RunFolder, held: list[str]) -> PastRun:
    journal = _journal(folder)
    steps = [
        PastStep(
            number=number,
            step=name,
            stage=one.stage,
            metrics=dict(one.metrics),
            seconds=one.seconds,
            octets=_octets(one.folder),
            shared=held.count(one.fingerprint) > 1,
            folder=str(folder.link_of(number, name)),
        )
        for number, name, one in folder.finished()
    ]
    return PastRun(
        name=folder.name,
        folder=str(folder.path),
        status=_status(folder, journal),
        begun=str(journal[0].get("at", "")) if journal else "",
        last=str(journal[-1].get("at", "")) if journal else "",
        asked=_asked(folder),
        steps=tuple(steps),
    )


def _status(folder: RunFolder, journal: list[dict[str, Any]]) -> str:
    if is_held(folder.path / LOCK):
        return "running"
    last = journal[-1] if journal else {}
    if last.get("event") == "run finished":
        return "finished"
    if last.get("event") == "step failed":
        stopped = last.get("error") in ("KeyboardInterrupt", "Stopped")
        return f"{'stopped' if stopped else 'failed'} in {last.get('step')}"
    return "interrupted"


def _journal(folder: RunFolder) -> list[dict[str, Any]]:
    """The journal's lines; a last one that a crash has torn is left out."""
    records: list[dict[str, Any]] = []
    if folder.journal.is_file():
        for text in folder.journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(text)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
    return records


def _asked(folder: RunFolder) -> int:
    try:
        recipe = yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))
        return len(recipe["steps"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return 0


def _octets(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
