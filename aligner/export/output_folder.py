"""Write a folder in one atomic move, and replace nothing but a model folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aligner.export.options import ExportError
from aligner.run.durable import flush_folder, flush_tree
from aligner.state import Artifact

_MODEL_FILES = ("config.json", "adapter_config.json")


def check_output_folder(to: Path, sources: tuple[Artifact, ...], *, force: bool) -> None:
    """Check that `to` can be written and contains nothing that must be kept.

    Raises:
        ExportError: It cannot, or it does.
    """
    where = str(to)
    if not to.absolute().parent.is_dir():
        raise ExportError(
            "the parent folder does not exist", where=where, hint="create it, or choose another"
        )
    if not to.exists() and not to.is_symlink():
        return
    if to.is_symlink() or not to.is_dir():
        raise ExportError("not a folder", where=where, hint="choose a name that does not exist yet")
    if not any(to.iterdir()):
        return
    if not force:
        raise ExportError(
            "the folder is not empty",
            where=where,
            hint="choose another folder, or replace it with --force",
        )
    if not any((to / name).is_file() for name in _MODEL_FILES):
        raise ExportError(
            "the folder contains no model, so --force does not replace it",
            where=where,
            hint="choose another folder",
        )
    target = to.resolve()
    for artifact in sources:
        for path in (artifact.path, *artifact.adapters):
            if os.path.isabs(path) and Path(path).resolve().is_relative_to(target):
                raise ExportError("the folder contains the run's own models", where=where)


@contextmanager
def new_output_folder(to: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `to` if the body succeeds and is removed otherwise."""
    to = to.absolute()
    new = to.with_name(f".{to.name}.{os.getpid()}.new")
    old = to.with_name(f".{to.name}.{os.getpid()}.old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
    except OSError as error:
        raise ExportError(f"cannot be written: {error.strerror}", where=str(to)) from None
    try:
        yield new
        flush_tree(new)
        if to.is_dir():
            os.replace(to, old)
        try:
            os.replace(new, to)
        except OSError:
            if old.is_dir():
                os.replace(old, to)
            raise
        flush_folder(to.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
