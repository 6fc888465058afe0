"""Hash the code that makes tokens of rows: prepared data is reused only by the same code."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from aligner.registry import Registry, RowOperation

LIBRARIES = ("tokenizers", "transformers", "jinja2", "pyarrow")
"""Libraries whose version decides the tokens of a row or the format in which they are stored."""


def code_version(registry: Registry, operations: Iterable[type[RowOperation]] = ()) -> str:
    """Return the SHA-256 of the code of `aligner.data`, of plugins' formats and of row operations.

    Args:
        registry: Its data formats count, as any of them may match.
        operations: Row operations that are used.
    """
    digest = sha256(_own().encode())
    for name, data_format in sorted(registry.data_formats.items()):
        digest.update(f"\0{name}\0{_source(inspect.getmodule(data_format.convert))}".encode())
    for name in sorted({operation.__module__.partition(".")[0] for operation in operations}):
        digest.update(f"\0{name}\0{_package(name)}".encode())
    return digest.hexdigest()


@cache
def _own() -> str:
    texts = _texts(Path(__file__).parents[1])
    return "\0".join([*texts, *(f"{name} {version(name)}" for name in LIBRARIES)])


def _texts(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))]


def _package(name: str) -> str:
    """Return the source of a package, all its modules included, or of a single module."""
    module = sys.modules[name]
    path = getattr(module, "__file__", None)
    if path and Path(path).name == "__init__.py":
        return "\0".join(_texts(Path(path).parent))
    return _source(module)


def _source(module: object) -> str:
    path = getattr(module, "__file__", None)
    return Path(path).read_text(encoding="utf-8") if path else repr(module)
