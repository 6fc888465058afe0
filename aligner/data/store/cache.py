"""Cache prepared data under the hash of all that determines it, for every step and recipe."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aligner.errors import DataError
from aligner.run.durable import flush_folder, flush_tree, hash_json, hash_tree, write_text
from aligner.run.lock import is_held

ENTRY = "entry.json"


class Cache:
    """Folder of entries that are complete or absent; `entry.json` has the hashes of an entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def writable(self) -> bool:
        """True if entries can be written; the folder is created if possible."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.folder, os.W_OK)

    def get(
        self, key: str, make: Callable[[Path], Mapping[str, Any]]
    ) -> tuple[Path, dict[str, Any]]:
        """Return the entry with this key, and make it if it is absent or damaged.

        Of several processes that need the same entry, one makes it and the others wait.

        Args:
            key: SHA-256 of everything that determines the entry.
            make: Writes files into the given folder, and returns values about them for JSON.

        Returns:
            The folder of the entry, and the values about it.

        Raises:
            DataError: the disk is full.
        """
        entry_folder = self.folder / key[:16]
        with self._lock(entry_folder.name):
            entry = _verified(entry_folder, key)
            if entry is None:
                entry = self._make(entry_folder, key, make)
        # The time of the last use decides when `aligner runs --prune` removes it.
        with contextlib.suppress(OSError):
            os.utime(entry_folder / ENTRY)
        return entry_folder, entry["about"]

    def unused(self, since: float) -> Iterator[tuple[Path, float | None]]:
        """Yield entries not used since a time, with the time of their last use; None for incomplete ones.

        Args:
            since: Seconds since 1970.
        """
        for entry_folder in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            name = entry_folder.name.partition(".")[0]
            if not name or is_held(self.folder / ".locks" / name):
                continue
            entry = entry_folder / ENTRY
            last = entry.stat().st_mtime if entry.is_file() and not entry_folder.suffix else None
            if last is None or last < since:
                yield entry_folder, last

    def _make(
        self, entry_folder: Path, key: str, make: Callable[[Path], Mapping[str, Any]]
    ) -> dict[str, Any]:
        work = entry_folder.with_suffix(".partial")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            about = json.loads(json.dumps(make(work)))
            entry = {"key": key, "about": about, "files": hash_tree(work)}
            flush_tree(work)
            write_text(work / ENTRY, json.dumps({**entry, "sha256": hash_json(entry)}))
            shutil.rmtree(entry_folder, ignore_errors=True)
            os.replace(work, entry_folder)
        except BaseException as error:
            shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                what = "the disk is full: prepared data cannot be written"
                hint = "free some space, `aligner runs --prune` may, or put the runs elsewhere"
                raise DataError(what, where=str(self.folder), hint=hint) from None
            raise
        flush_folder(self.folder)
        return entry

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Lock an entry, waiting for another process; the lock ends with the process."""
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        handle = os.open(locks / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _verified(entry_folder: Path, key: str) -> dict[str, Any] | None:
    """Return the entry at `entry_folder` if its key and the hashes of all files are right."""
    try:
        entry: dict[str, Any] = json.loads((entry_folder / ENTRY).read_text(encoding="utf-8"))
        seal = entry.pop("sha256")
        if seal != hash_json(entry) or entry["key"] != key:
            return None
        files = {n: digest for n, digest in hash_tree(entry_folder).items() if n != ENTRY}
        return entry if files == entry["files"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
