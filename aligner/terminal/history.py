"""Read the runs of a folder: their steps and status, and the files that no run uses."""

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

KEEP_DATA_DAYS = 30
"""Days after which unused prepared data can be removed."""
_DAY = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A finished step of a run."""

    number: int
    step: str
    stage: str
    metrics: dict[str, float]
    seconds: float
    num_bytes: int
    shared: bool
    """True if another run has this step too."""
    folder: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run and its finished steps."""

    name: str
    folder: str
    status: str
    """`finished`, `running`, `stopped`, `failed in STEP`, or `interrupted`."""
    started: str
    """UTC time of the first start."""
    updated: str
    """UTC time of the last journal entry."""
    total_steps: int
    """Number of steps in the recipe."""
    steps: tuple[StepRecord, ...]

    @property
    def num_bytes(self) -> int:
        return sum(step.num_bytes for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class UnusedFolder:
    """A folder in the store that no run uses."""

    path: Path
    description: str
    num_bytes: int


def read_runs(runs: Path) -> list[RunRecord]:
    """Return every run in the folder `runs`, by name."""
    folders = all_runs(runs)
    fingerprints = [step.fingerprint for folder in folders for _, _, step in folder.finished()]
    return [_read_run(folder, fingerprints) for folder in folders]


def unused_steps(runs: Path) -> Iterator[UnusedFolder]:
    """Return finished, partial and damaged steps in the store that no run needs."""
    store = Store(runs.absolute()).folder
    needed = _needed(runs, store.resolve())
    for folder in sorted(store.iterdir()) if store.is_dir() else []:
        if (
            folder.name.startswith(".")
            or folder.resolve() in needed
            or is_held(step_lock(folder) / LOCK)
        ):
            continue
        done = read_finished(folder) if not folder.suffix else None
        text = "partial step" if folder.suffix == ".partial" else "damaged step"
        if done is not None:
            text = f"finished step {done.step!r}"
        yield UnusedFolder(path=folder, description=text, num_bytes=_size(folder))


def unused_data(runs: Path, now: float) -> Iterator[UnusedFolder]:
    """Return prepared data that was not used for a month, and incomplete data."""
    for folder, last in Cache(data_folder(runs)).unused(now - KEEP_DATA_DAYS * _DAY):
        text = "incomplete data"
        if last is not None:
            text = f"data unused for {(now - last) / _DAY:.0f} days"
        yield UnusedFolder(path=folder, description=text, num_bytes=_size(folder))


def data_size(runs: Path) -> int:
    """Return the bytes of all prepared data."""
    return _size(data_folder(runs))


def step_lock(folder: Path) -> Path:
    """Return the folder that is locked while the step in `folder` runs."""
    return Store(folder.parent.parent).lock_of(folder.name.partition(".")[0])


def _needed(runs: Path, store: Path) -> set[Path]:
    """Return the folders in the store that runs use, and the folders that their models refer to."""
    needed: set[Path] = set()
    queue = [
        link.resolve()
        for folder in all_runs(runs)
        if (folder.path / "steps").is_dir()
        for link in (folder.path / "steps").iterdir()
    ]
    while queue:
        folder = queue.pop()
        if folder in needed:
            continue
        needed.add(folder)
        done = read_finished(folder)
        state = done.state() if done is not None else ModelState()
        for slot in state.filled():
            artifact = state.get(slot)
            for path in (artifact.path, *artifact.adapters):
                inside = Path(path).is_relative_to(store)
                queue += [store / Path(path).relative_to(store).parts[0]] if inside else []
    return needed


def _read_run(folder: RunFolder, fingerprints: list[str]) -> RunRecord:
    journal = _journal(folder)
    steps = [
        StepRecord(
            number=number,
            step=name,
            stage=finished.stage,
            metrics=dict(finished.metrics),
            seconds=finished.seconds,
            num_bytes=_size(finished.folder),
            shared=fingerprints.count(finished.fingerprint) > 1,
            folder=str(folder.link_of(number, name)),
        )
        for number, name, finished in folder.finished()
    ]
    return RunRecord(
        name=folder.name,
        folder=str(folder.path),
        status=_status(folder, journal),
        started=str(journal[0].get("at", "")) if journal else "",
        updated=str(journal[-1].get("at", "")) if journal else "",
        total_steps=_total_steps(folder),
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
    """Return the records of the journal; a line that a crash truncated is ignored."""
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


def _total_steps(folder: RunFolder) -> int:
    try:
        recipe = yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))
        return len(recipe["steps"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
