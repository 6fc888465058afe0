"""What code makes tokens of rows, as one hash: prepared data is used again only by the same."""

from __future__ import annotations

import inspect
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from aligner.registry import Registry

LIBRARIES = ("tokenizers", "transformers", "jinja2", "pyarrow")
"""Libraries that decide which tokens a row becomes, and how they are written down."""


def code_version(registry: Registry) -> str:
    """SHA-256 of this package's code, of the formats that plugins offer, and of the libraries."""
    digest = sha256(_own().encode())
    for name, one in sorted(registry.data_formats.items()):
        digest.update(f"\0{name}\0{_source(inspect.getmodule(one.convert))}".encode())
    return digest.hexdigest()


@cache
def _own() -> str:
    folder = Path(__file__).parents[1]
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))]
    return "\0".join([*texts, *(f"{name} {version(name)}" for name in LIBRARIES)])


def _source(module: object) -> str:
    path = getattr(module, "__file__", None)
    return Path(path).read_text(encoding="utf-8") if path else repr(module)
