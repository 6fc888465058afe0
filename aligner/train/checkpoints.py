"""A step's checkpoints: sealed when whole, the newest whole one found again, the old ones dropped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from aligner.run.durable import flush_tree, hash_tree, write_text

SEAL = "sealed.json"
KEPT = 2
"""Whole checkpoints that stay: should the newest turn out damaged, there is one before it."""


def number(folder: Path) -> int:
    """The optimizer step of `checkpoint-<step>`; order is by this, never by file times."""
    tail = folder.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1


def seal(folder: Path) -> None:
    """Mark a checkpoint as whole: everything flushed, then the list of hashes written last."""
    flush_tree(folder)
    write_text(folder / SEAL, json.dumps(hash_tree(folder), indent=1))


def is_whole(folder: Path) -> bool:
    """Whether every file is there and is what was sealed."""
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found = hash_tree(folder)
    found.pop(SEAL, None)
    return bool(found == sealed)


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint under `folder` that verifies, however many torn ones are newer."""
    for one in sorted(folder.glob("checkpoint-*"), key=number, reverse=True):
        if is_whole(one):
            return one
    return None


def prune(folder: Path, *, keep: frozenset[Path] = frozenset()) -> None:
    """Drop all but the newest sealed checkpoints, and `keep`; torn ones go as well."""
    sealed = sorted(
        (one for one in folder.glob("checkpoint-*") if (one / SEAL).is_file()), key=number
    )
    stay = {*sealed[-KEPT:], *keep}
    for one in folder.glob("checkpoint-*"):
        if one not in stay:
            shutil.rmtree(one, ignore_errors=True)
