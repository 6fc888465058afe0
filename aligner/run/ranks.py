"""Which of several processes this is, as the launcher says in the environment."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from aligner.errors import StageError
from aligner.run.durable import write_text
from aligner.state import Artifact

_WRITING = 3600.0
"""Seconds that a process waits for the first one to write a folder."""


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """This process's number among all, 0 when it is alone."""
    return int(environment.get("RANK", "0"))


def world(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes walk the chain together."""
    return int(environment.get("WORLD_SIZE", "1"))


def arrived(folder: Path, number: int, environment: Mapping[str, str] = os.environ) -> Path:
    """The mark that process `number` leaves in `folder` when it has ended its step.

    It carries the launcher's name for this start, so that a mark of an earlier one says nothing.
    """
    return folder / f".process-{number}.{start_of(environment)}"


def start_of(environment: Mapping[str, str] = os.environ) -> str:
    """What the processes of one start have in common, and those of another start do not."""
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
    together = " ".join(environment.get(name, "") for name in names)
    return hashlib.sha256(together.encode()).hexdigest()[:12]


def written_once(folder: Path, write: Callable[[], Artifact], *, name: str = "") -> Artifact:
    """Let the first process write `folder`; all get the artifact that it made of it.

    For what is written once in a step, by every process's own call of this; `name` tells apart what
    goes into one folder.
    """
    mark = folder.parent / f".process-0.{folder.name}{name}.{start_of()}"
    if rank() > 0:
        wait_until(mark.exists, what=f"{folder} to be written", seconds=_WRITING)
        raw = json.loads(mark.read_text(encoding="utf-8"))
        return Artifact(**{**raw, "adapters": tuple(raw["adapters"])})
    artifact = write()
    if world() > 1:
        write_text(mark, json.dumps(asdict(artifact)))
    return artifact


def wait_until(done: Callable[[], bool], *, what: str, seconds: float, every: float = 0.05) -> None:
    """Wait for what the first process is doing; StageError when it takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise StageError(
                f"process {rank()} waited {seconds:.0f} s for {what}",
                hint="see what the first process says; all processes must share the run folder",
            )
        time.sleep(every)
