"""Folder of a run: the resolved recipe, the journal, and a link to each step."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aligner.run.durable import append_line, write_text
from aligner.run.store import FinishedStep, read_finished


@dataclass(frozen=True)
class RunFolder:
    """`runs/<name>/`; the store next to it contains the steps."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    def begin(self, recipe: str, steps: Iterable[str]) -> None:
        """Write the recipe and remove links to steps that it no longer has."""
        (self.path / "steps").mkdir(parents=True, exist_ok=True)
        write_text(self.recipe, recipe)
        names = {self.link_of(number, step).name for number, step in enumerate(steps, start=1)}
        for link in (self.path / "steps").iterdir():
            if link.is_symlink() and link.name not in names:
                link.unlink()

    def link_of(self, number: int, step: str) -> Path:
        """Return the path of the link to a step: `steps/<number>-<step>`."""
        return self.path / "steps" / f"{number}-{step}"

    def link(self, number: int, step: str, folder: Path) -> Path:
        """Atomically make `steps/<number>-<step>` a link to `folder`; return the link."""
        link = self.link_of(number, step)
        temporary = link.with_name(f".{link.name}.{os.getpid()}.new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(folder, link.parent))
        os.replace(temporary, link)
        return link

    def note(self, event: str, **facts: Any) -> None:
        """Append an event to the journal."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        append_line(self.journal, {"at": now, "event": event, **facts})

    def finished(self) -> Iterator[tuple[int, str, FinishedStep]]:
        """Yield the finished steps in order: number, name in this run, and the step."""
        steps = self.path / "steps"
        links = sorted(steps.iterdir(), key=_number) if steps.is_dir() else []
        for link in links:
            step = read_finished(link) if _number(link) else None
            if step is not None:
                yield _number(link), link.name.split("-", 1)[1], step


def data_folder(runs: Path) -> Path:
    """Return the folder of prepared data, shared by all runs in `runs`."""
    return runs.absolute() / ".data"


def all_runs(runs: Path) -> list[RunFolder]:
    """Return every run in `runs`, sorted by name."""
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    return [RunFolder(path) for path in folders if (path / "recipe.yaml").is_file()]


def _number(link: Path) -> int:
    head = link.name.split("-", 1)[0]
    return int(head) if head.isdigit() else 0
