"""Lock of a folder, which the kernel releases when its process ends for any reason."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aligner.errors import ChainError
from aligner.run.processes import launch_id

LOCK = ".lock"
"""Name of the lock file in a folder."""


@contextmanager
def locked(folder: Path, *, rank: int = 0) -> Iterator[None]:
    """Lock `folder` for this process.

    Every process of a distributed run has its own lock, so workers that survive their launcher still
    prevent a second run.

    Raises:
        ChainError: Another process has locked the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (LOCK if rank == 0 else f"{LOCK}.{rank}")
    if rank == 0:
        for other in sorted(folder.glob(f"{LOCK}.*")):
            _check_other_rank(other, folder)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(handle, folder)
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()} {launch_id()}\n".encode())
        yield
    finally:
        os.close(handle)


def _check_other_rank(path: Path, folder: Path) -> None:
    """Raise if another rank has the lock, unless it belongs to the same launch."""
    handle = os.open(path, os.O_RDWR)
    try:
        if path.read_text(encoding="utf-8").split()[1:] != [launch_id()]:
            _lock(handle, folder)
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 64).decode(errors="replace").split(" ")[0] or "unknown"
        raise ChainError(
            f"another process ({holder}) is running in this folder",
            where=str(folder),
            hint="wait for it, stop it, or give this run its own name with --name",
        ) from None


def is_held(lock: Path) -> bool:
    """Return True if a process has locked this file; never waits."""
    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
