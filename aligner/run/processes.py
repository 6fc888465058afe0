"""Rank, world size and synchronization of distributed processes."""

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

_WRITE_TIMEOUT = 3600.0
"""Seconds that the other processes wait for rank 0 to write a folder."""
_SHARE_TIMEOUT = 24 * 3600.0
"""Seconds that rank 0 waits for the shares of the other processes."""


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return the rank of this process; 0 if it is the only one."""
    return int(environment.get("RANK", "0"))


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that run the chain together."""
    return int(environment.get("WORLD_SIZE", "1"))


def done_marker(folder: Path, number: int, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the marker file that process `number` creates in `folder` when it has ended its step.

    Its name contains the launch, so that a marker of an earlier launch does not count.
    """
    return folder / f".process-{number}.{launch_id(environment)}"


def launch_id(environment: Mapping[str, str] = os.environ) -> str:
    """Return an id that is the same for all processes of a launch, and differs between launches."""
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
    values = " ".join(environment.get(name, "") for name in names)
    return hashlib.sha256(values.encode()).hexdigest()[:12]


def write_once(folder: Path, write: Callable[[], Artifact], *, name: str = "") -> Artifact:
    """Call `write` in rank 0 only, and return its artifact in every process.

    Every process calls this. `name` distinguishes several calls for the same folder.
    """
    marker = folder.parent / f".process-0.{folder.name}{name}.{launch_id()}"
    if rank() > 0:
        wait_until(marker.exists, what=f"{folder} to be written", seconds=_WRITE_TIMEOUT)
        raw = json.loads(marker.read_text(encoding="utf-8"))
        return Artifact(**{**raw, "adapters": tuple(raw["adapters"])})
    artifact = write()
    if world_size() > 1:
        write_text(marker, json.dumps(asdict(artifact)))
    return artifact


def write_after_shares(folder: Path, write: Callable[[], Artifact]) -> Artifact:
    """Wait until every process has done its share of the work, then call `write` in rank 0 only.

    Every process calls this after its share, and receives the artifact that `write` returns.
    """

    def marker(number: int) -> Path:
        return folder.parent / f".process-{number}.share.{launch_id()}"

    def wait_and_write() -> Artifact:
        for number in range(1, world_size()):
            what = f"the share of process {number}"
            wait_until(marker(number).exists, what=what, seconds=_SHARE_TIMEOUT)
        return write()

    if rank() > 0:
        marker(rank()).touch()
    return write_once(folder, wait_and_write)


def wait_until(done: Callable[[], bool], *, what: str, seconds: float, every: float = 0.05) -> None:
    """Wait until `done` is true.

    Raises:
        StageError: It takes longer than `seconds`.
    """
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise StageError(
                f"process {rank()} waited {seconds:.0f} s for {what}",
                hint="see the output of process 0; all processes must share the run folder",
            )
        time.sleep(every)
