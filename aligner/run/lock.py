"""One run to a folder: a lock that the kernel lets go when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aligner.errors import ChainError
from aligner.run.ranks import start_of

LOCK = ".lock"
"""The file in a folder that is held."""


@contextmanager
def locked(folder: Path, *, rank: int = 0) -> Iterator[None]:
    """Hold `folder` for this process; ChainError when another one holds it.

    Every process of a distributed run holds a lock of its own, so workers that outlive their launcher
    still keep a second run out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (LOCK if rank == 0 else f"{LOCK}.{rank}")
    if rank == 0:
        for other in sorted(folder.glob(f"{LOCK}.*")):
            _refuse_if_held_by_others(other, folder)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, folder)
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()} {start_of()}\n".encode())
        yield
    finally:
        os.close(handle)


def _refuse_if_held_by_others(path: Path, folder: Path) -> None:
    """Processes of this very start may be here already; those of an earlier one must not."""
    handle = os.open(path, os.O_RDWR)
    try:
        if path.read_text(encoding="utf-8").split()[1:] != [start_of()]:
            _take(handle, folder)
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
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
    """Whether a process holds this lock file. Looks without waiting, and lets go at once."""
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
