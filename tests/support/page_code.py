"""Extract the code blocks of a page, so that tests run the code that readers copy."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str = "python") -> list[str]:
    """Return the fenced blocks in `language`, each padded with newlines to its line number.

    >>> blocks("one\\n```python\\nx = 1\\n```\\n")
    ['\\n\\nx = 1\\n']
    """
    return [
        "\n" * page.count("\n", 0, found.start("code")) + found["code"]
        for found in _FENCE.finditer(page)
        if found["language"] == language
    ]


def sections(page: str, *, level: int = 2) -> dict[str, str]:
    """Return the text under each heading of a level.

    >>> sections("# Page\\n## One\\na\\n## Two\\nb\\n")
    {'One': 'a\\n', 'Two': 'b\\n'}
    """
    parts = re.split(rf"^{'#' * level} (.+)\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def as_module(code: str, name: str, folder: Path) -> ModuleType:
    """Import `code` as a module, written to `folder` so that its source is available."""
    path = folder / f"{name}.py"
    path.write_text(code.lstrip("\n"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module when they are created
    spec.loader.exec_module(module)
    return module
