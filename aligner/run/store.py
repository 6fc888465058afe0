"""Store of finished steps by fingerprint: complete or absent, verified before reuse."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from aligner.run.durable import (
    flush_folder,
    flush_tree,
    hash_file,
    hash_json,
    hash_tree,
    write_text,
)
from aligner.state import Artifact, ModelState, Slot

MANIFEST = "step.json"
STATE = "state.json"
STEPS = ".steps"
"""Folder of the steps, in the folder of the runs."""
UNFINISHED = ".partial"
"""Suffix of the folder of a step that has not finished."""


@dataclass(frozen=True, kw_only=True)
class FinishedStep:
    """A step that has finished, with its saved output."""

    folder: Path
    stage: str
    step: str
    """Name of the step in the recipe that ran it."""
    fingerprint: str
    determinants: Mapping[str, Any]
    metrics: Mapping[str, float]
    seconds: float
    provides: tuple[str, ...]
    files: Mapping[str, str] = field(repr=False)
    """SHA-256 of every file by path relative to `folder`."""

    def state(self) -> ModelState:
        """Return the state after the step, with current paths."""
        text = (self.folder / STATE).read_text(encoding="utf-8")
        return ModelState.from_json(text, relative_to=self.folder)

    def damage(self, *, hashes: bool) -> str:
        """Return the first problem with the files, or nothing; `hashes=False` only checks existence."""
        for name, digest in self.files.items():
            path = self.folder / name
            if not path.is_file():
                return f"{path} is missing"
            if hashes and hash_file(path) != digest:
                return f"{path} differs from what was saved"
        return ""


class Store:
    """Finished and unfinished steps in one folder of runs."""

    def __init__(self, runs: Path) -> None:
        self.folder = runs / STEPS

    def find(self, fingerprint: str) -> FinishedStep | None:
        """Return the finished step with this fingerprint, or None without a valid manifest."""
        folder = self._folder(fingerprint)
        return read_finished(folder, fingerprint) if (folder / MANIFEST).is_file() else None

    def work_folder(self, fingerprint: str) -> Path:
        """Return the folder in which the step runs; checkpoints of an interrupted run stay in it."""
        folder = self.folder / f"{fingerprint[:16]}{UNFINISHED}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def lock_of(self, fingerprint: str) -> Path:
        """Return the folder to lock while the step with this fingerprint runs."""
        return self.folder / ".locks" / fingerprint[:16]

    def commit(
        self,
        fingerprint: str,
        *,
        stage: str,
        step: str,
        state: ModelState,
        provides: frozenset[Any],
        determinants: Mapping[str, Any],
        metrics: Mapping[str, float],
        seconds: float,
    ) -> FinishedStep:
        """Turn the work folder into a finished step: flush all files, write the manifest, rename.

        Paths of `state` in the work folder become paths in the finished folder.
        """
        work, final = self.work_folder(fingerprint), self._folder(fingerprint)
        for other in work.glob(".process-*"):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
        moved = relocate(state, work, final)
        write_text(work / STATE, moved.to_json(relative_to=final))
        finished = FinishedStep(
            folder=final,
            stage=stage,
            step=step,
            fingerprint=fingerprint,
            determinants=determinants,
            metrics=metrics,
            seconds=round(seconds, 3),
            provides=tuple(sorted(provides)),
            files=hash_tree(work),
        )
        flush_tree(work)
        write_text(work / MANIFEST, _manifest(finished))
        self._rename(final, "replaced")
        os.replace(work, final)
        flush_folder(self.folder)
        self._delete("replaced")
        return finished

    def move_damaged_away(self, finished: FinishedStep) -> Path:
        """Rename the folder of a damaged step, so that the step runs again; keep its files."""
        return self._rename(finished.folder, "damaged")

    def _folder(self, fingerprint: str) -> Path:
        return self.folder / fingerprint[:16]

    def _rename(self, folder: Path, reason: str) -> Path:
        renamed = folder.with_name(f"{folder.name}.{reason}-{time.time_ns()}")
        if folder.exists():
            os.replace(folder, renamed)
        return renamed

    def _delete(self, reason: str) -> None:
        for folder in self.folder.glob(f"*.{reason}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def read_finished(folder: Path, fingerprint: str | None = None) -> FinishedStep | None:
    """Read the manifest of a finished step; None if it is modified or another step's."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        seal = raw.pop("sha256")
        if seal != hash_json(raw) or fingerprint not in (None, raw["fingerprint"]):
            return None
        return FinishedStep(folder=folder.resolve(), **{**raw, "provides": tuple(raw["provides"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def relocate(state: ModelState, old: Path, new: Path) -> ModelState:
    """Return `state` with paths in `old` replaced by the same paths in `new`."""

    def move(path: str) -> str:
        inside = Path(path).is_absolute() and Path(path).is_relative_to(old)
        return str(new / Path(path).relative_to(old)) if inside else path

    slots: dict[Slot, Artifact] = {}
    for slot in state.filled():
        artifact = state.get(slot)
        values = asdict(artifact) | {
            "path": move(artifact.path),
            "adapters": tuple(move(path) for path in artifact.adapters),
        }
        slots[slot] = Artifact(**values)
    return ModelState.of(slots)


def path_when_finished(path: Path) -> Path:
    """Return the path of a file in a work folder after the step has finished.

    >>> path_when_finished(Path("runs/.steps/0123456789abcdef.partial/policy/base")).as_posix()
    'runs/.steps/0123456789abcdef/policy/base'
    """
    parts = list(path.parts)
    for number, (above, part) in enumerate(pairwise(path.parts), start=1):
        if above == STEPS:
            parts[number] = part.removesuffix(UNFINISHED)
    return Path(*parts)


def _manifest(finished: FinishedStep) -> str:
    raw = {key: value for key, value in asdict(finished).items() if key != "folder"}
    raw = json.loads(json.dumps(raw))
    return json.dumps({**raw, "sha256": hash_json(raw)}, indent=2, ensure_ascii=False) + "\n"
