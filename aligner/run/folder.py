"""One run's folder: the recipe as resolved, the journal, and a link to each of its steps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aligner.run.durable import append_line, write_text
from aligner.run.store import Finished, read_finished


@dataclass(frozen=True)
class RunFolder:
    """`runs/<name>/`, beside the store that holds the steps themselves."""

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
        """Write the recipe down and forget links to steps it no longer has."""
        (self.path / "steps").mkdir(parents=True, exist_ok=True)
        write_text(self.recipe, recipe)
        kept = {self.link_of(number, step).name for number, step in enumerate(steps, start=1)}
        for link in (self.path / "steps").iterdir():
            if link.is_symlink() and link.name not in kept:
                link.unlink()

    def link_of(self, number: int, step: str) -> Path:
        return self.path / "steps" / f"{number}-{step}"

    def point(self, number: int, step: str, folder: Path) -> Path:
        """Make `steps/<number>-<step>` lead to `folder`, in one move."""
        link = self.link_of(number, step)
        beside = link.with_name(f".{link.name}.{os.getpid()}.new")
        beside.unlink(missing_ok=True)
        beside.symlink_to(os.path.relpath(folder, link.parent))
        os.replace(beside, link)
        return link

    def note(self, event: str, **facts: Any) -> None:
        """Add a line to the journal."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        append_line(self.journal, {"at": now, "event": event, **facts})

    def finished(self) -> Iterator[tuple[int, str, Finished]]:
        """The finished steps in order: number, name in this run, and what it left."""
        steps = self.path / "steps"
        links = sorted(steps.iterdir(), key=_number) if steps.is_dir() else []
        for link in links:
            step = read_finished(link) if _number(link) else None
            if step is not None:
                yield _number(link), link.name.split("-", 1)[1], step


def data_folder(runs: Path) -> Path:
    """Where prepared data is kept for all runs in `runs`."""
    return runs.absolute() / ".data"


def all_runs(runs: Path) -> list[RunFolder]:
    """Every run under `runs`, by name."""
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    return [RunFolder(path) for path in folders if (path / "recipe.yaml").is_file()]


def _number(link: Path) -> int:
    head = link.name.split("-", 1)[0]
    return int(head) if head.isdigit() else 0
