"""Take the code blocks out of a page, so that a test can run what its readers will copy."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str = "python") -> list[str]:
    """The fenced blocks of a page in `language`, in order, each padded to its own line number.

    >>> blocks("one\\n```python\\nx = 1\\n```\\n")
    ['\\n\\nx = 1\\n']
    """
    return [
        "\n" * page.count("\n", 0, found.start("code")) + found["code"]
        for found in _FENCE.finditer(page)
        if found["language"] == language
    ]


def sections(page: str, *, level: int = 2) -> dict[str, str]:
    """What stands under each heading of a level, up to the next one.

    >>> sections("# Page\\n## One\\na\\n## Two\\nb\\n")
    {'One': 'a\\n', 'Two': 'b\\n'}
    """
    parts = re.split(rf"^{'#' * level} (.+)\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def as_module(code: str, name: str, folder: Path) -> ModuleType:
    """Import `code` as a module of its own, written to `folder` so that its source can be read."""
    path = folder / f"{name}.py"
    path.write_text(code.lstrip("\n"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes look their module up while they are made
    spec.loader.exec_module(module)
    return module
