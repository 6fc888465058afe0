"""Finished steps by fingerprint: complete or absent, verified before they are used again."""

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
"""The folder of steps, under that of the runs."""
UNFINISHED = ".partial"
"""What the folder of a step ends with until it has finished."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A step that ran to its end."""

    folder: Path
    stage: str
    step: str
    """What the step was called in the recipe that made it."""
    fingerprint: str
    determinants: Mapping[str, Any]
    metrics: Mapping[str, float]
    seconds: float
    provides: tuple[str, ...]
    files: Mapping[str, str] = field(repr=False)
    """SHA-256 of every file, by path relative to `folder`."""

    def state(self) -> ModelState:
        """The state the step left, with paths as they are now."""
        text = (self.folder / STATE).read_text(encoding="utf-8")
        return ModelState.from_json(text, beside=self.folder)

    def damage(self, *, hashes: bool) -> str:
        """What is wrong with the files, or nothing; `hashes=False` only looks whether they are there."""
        for name, digest in self.files.items():
            path = self.folder / name
            if not path.is_file():
                return f"{path} is missing"
            if hashes and hash_file(path) != digest:
                return f"{path} is not what was saved"
        return ""


class Store:
    """The finished and the unfinished steps under one folder of runs."""

    def __init__(self, runs: Path) -> None:
        self.folder = runs / STEPS

    def find(self, fingerprint: str) -> Finished | None:
        """The finished step with this fingerprint, if it is there and whole (by its manifest)."""
        folder = self._place(fingerprint)
        return read_finished(folder, fingerprint) if (folder / MANIFEST).is_file() else None

    def workplace(self, fingerprint: str) -> Path:
        """Where the step with this fingerprint works until it is done; what it left there stays."""
        folder = self.folder / f"{fingerprint[:16]}{UNFINISHED}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def lock_of(self, fingerprint: str) -> Path:
        """The folder to lock while the step with this fingerprint works."""
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
    ) -> Finished:
        """Make the workplace a finished step: manifest written last, all flushed, then renamed.

        Paths of `state` inside the workplace become paths inside the finished folder.
        """
        work, final = self.workplace(fingerprint), self._place(fingerprint)
        for other in work.glob(".process-*"):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
        moved = relocate(state, work, final)
        write_text(work / STATE, moved.to_json(beside=final))
        finished = Finished(
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
        self._set_aside(final, "replaced")
        os.replace(work, final)
        flush_folder(self.folder)
        self._drop("replaced")
        return finished

    def set_aside(self, finished: Finished) -> Path:
        """Move a damaged step out of the way, keeping its files."""
        return self._set_aside(finished.folder, "damaged")

    def _place(self, fingerprint: str) -> Path:
        return self.folder / fingerprint[:16]

    def _set_aside(self, folder: Path, why: str) -> Path:
        aside = folder.with_name(f"{folder.name}.{why}-{time.time_ns()}")
        if folder.exists():
            os.replace(folder, aside)
        return aside

    def _drop(self, why: str) -> None:
        for folder in self.folder.glob(f"*.{why}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def read_finished(folder: Path, fingerprint: str | None = None) -> Finished | None:
    """Read a finished step's manifest; None when it is another step's or has been tampered with."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        seal = raw.pop("sha256")
        if seal != hash_json(raw) or fingerprint not in (None, raw["fingerprint"]):
            return None
        return Finished(folder=folder.resolve(), **{**raw, "provides": tuple(raw["provides"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def relocate(state: ModelState, old: Path, new: Path) -> ModelState:
    """`state` with every path under `old` replaced by the same path under `new`."""

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


def place_when_finished(path: Path) -> Path:
    """Where a file that lies in a step's workplace will lie once the step has finished.

    >>> place_when_finished(Path("runs/.steps/0123456789abcdef.partial/policy/base")).as_posix()
    'runs/.steps/0123456789abcdef/policy/base'
    """
    parts = list(path.parts)
    for number, (above, part) in enumerate(pairwise(path.parts), start=1):
        if above == STEPS:
            parts[number] = part.removesuffix(UNFINISHED)
    return Path(*parts)


def _manifest(finished: Finished) -> str:
    raw = {key: value for key, value in asdict(finished).items() if key != "folder"}
    raw = json.loads(json.dumps(raw))
    return json.dumps({**raw, "sha256": hash_json(raw)}, indent=2, ensure_ascii=False) + "\n"
