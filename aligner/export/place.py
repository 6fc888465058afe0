"""Put a finished folder in its place in one move, and never over anything that is not a model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aligner.errors import AlignerError
from aligner.export.spec import ExportError
from aligner.run.durable import flush_folder, flush_tree
from aligner.state import Artifact

_MODEL = ("config.json", "adapter_config.json")


def check_place(to: Path, sources: tuple[Artifact, ...], *, force: bool) -> None:
    """Raises ExportError where `to` cannot be written, or holds what must not be lost."""
    where = str(to)
    if not to.absolute().parent.is_dir():
        raise ExportError("there is no folder to write it in", where=where, hint="make it first")
    if not to.exists() and not to.is_symlink():
        return
    if to.is_symlink() or not to.is_dir():
        raise ExportError("is no folder", where=where, hint="name one that is not there yet")
    if not any(to.iterdir()):
        return
    if not force:
        raise ExportError(
            "is not empty", where=where, hint="name another folder, or replace it with --force"
        )
    if not any((to / name).is_file() for name in _MODEL):
        raise ExportError(
            "holds no model, so --force does not replace it",
            where=where,
            hint="name another folder",
        )
    mine = to.resolve()
    for artifact in sources:
        for path in (artifact.path, *artifact.adapters):
            if os.path.isabs(path) and Path(path).resolve().is_relative_to(mine):
                raise ExportError("the run's own models lie there", where=where)


@contextmanager
def beside(to: Path) -> Iterator[Path]:
    """A new folder to write in, which becomes `to` when the body ends well and else is removed."""
    to = to.absolute()
    work = to.with_name(f".{to.name}.{os.getpid()}.new")
    old = to.with_name(f".{to.name}.{os.getpid()}.old")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir()
    except OSError as error:
        raise _unwritten(to, error) from None
    try:
        yield work
        flush_tree(work)
        if to.is_dir():
            os.replace(to, old)
        try:
            os.replace(work, to)
        except OSError:
            if old.is_dir():
                os.replace(old, to)
            raise
        flush_folder(to.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unwritten(to: Path, error: OSError) -> AlignerError:
    return ExportError(f"cannot be written: {error.strerror}", where=str(to))
