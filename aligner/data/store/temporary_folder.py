"""A folder for what a process writes down for itself, gone when the process is done with it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any


class _Folder:
    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="aligner-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def temporary_folder(memo: dict[str, Any]) -> Path:
    """The folder that goes with `memo`: removed when that is dropped, or the process ends."""
    folder: _Folder = memo.setdefault("temporary folder", None) or _Folder()
    memo["temporary folder"] = folder
    return folder.path
