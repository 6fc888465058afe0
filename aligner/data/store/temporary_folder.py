"""Temporary folder of a process, removed at its end."""

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
    """Return the folder of `memo`; it is removed with it, or at the end of the process."""
    folder: _Folder = memo.setdefault("temporary folder", None) or _Folder()
    memo["temporary folder"] = folder
    return folder.path
