"""Checkpoints of a step: marked complete by their hashes, found again, and pruned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from aligner.run.durable import flush_tree, hash_tree, write_text

SEAL = "sealed.json"
KEPT = 2
"""Number of complete checkpoints that are kept: if the newest is damaged, there is one before it."""


def step_number(folder: Path) -> int:
    """Return the optimizer step of `checkpoint-<step>`, by which checkpoints are ordered."""
    tail = folder.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1


def mark_complete(folder: Path) -> None:
    """Flush all files of a checkpoint to disk, then write the list of their hashes."""
    flush_tree(folder)
    write_text(folder / SEAL, json.dumps(hash_tree(folder), indent=1))


def is_complete(folder: Path) -> bool:
    """True if all files of a checkpoint are there and have the listed hashes."""
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found = hash_tree(folder)
    found.pop(SEAL, None)
    return bool(found == sealed)


def newest_complete(folder: Path) -> Path | None:
    """Return the newest complete checkpoint below `folder`; incomplete ones are skipped."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_number, reverse=True):
        if is_complete(checkpoint):
            return checkpoint
    return None


def prune(folder: Path, *, keep: frozenset[Path] = frozenset()) -> None:
    """Delete all checkpoints but the newest complete ones, and `keep`."""
    found = sorted(folder.glob("checkpoint-*"), key=step_number)
    kept = {*[path for path in found if (path / SEAL).is_file()][-KEPT:], *keep}
    for checkpoint in found:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint, ignore_errors=True)
