"""The kit's names exist, are documented on `docs/kit.md`, and its light modules load no torch.

`python tests/kit/test_kit.py` writes the page from the docstrings of the definitions.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aligner.testing.contract import HEAVY

MODULES = ("aligner.kit.declare", "aligner.kit.rows", "aligner.kit.work")
PAGE = Path(__file__).parents[2] / "docs" / "kit.md"
HEAD = """\
# The kit

The names that plugins import besides those of `aligner` and `aligner.testing`.
[Writing a plugin](writing-a-plugin.md) shows them in use. `aligner.kit.declare` and `aligner.kit.rows`
load no torch: the modules that an entry point imports (`__init__.py`, `options.py`, `stage.py`) use
only these.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    for module_name in MODULES:
        parts.append(f"\n## {module_name}\n\n| name | meaning |\n|---|---|\n")
        parts += [f"| `{name}` | {text} |\n" for name, text in sentences(module_name)]
    return "".join(parts)


def sentences(module_name: str) -> Iterator[tuple[str, str]]:
    """Yield the names of a module, each with the first line of the docstring at its definition."""
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(_tree(module_name))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for name in sorted(importlib.import_module(module_name).__all__, key=str.lower):
        module, original = homes[name]
        yield name, _docstring(module, original).split("\n\n")[0].replace("\n", " ")


def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(importlib.import_module(module)))


def _docstring(module: str, name: str) -> str:
    """Return the docstring of a class or function, or the string under an assignment."""
    body = _tree(module).body
    for place, node in enumerate(body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            after = body[place + 1] if place + 1 < len(body) else None
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return inspect.cleandoc(str(after.value.value))
    return ""


@pytest.mark.parametrize("module_name", MODULES)
def test_every_name_exists_and_has_a_sentence(module_name: str) -> None:
    module = importlib.import_module(module_name)
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)
    silent = [name for name, text in sentences(module_name) if not text]
    assert not silent, f"no sentence at the definition of {', '.join(silent)}"


def test_the_page_lists_every_name_with_its_sentence() -> None:
    assert PAGE.read_text("utf-8") == page()


def test_declaring_loads_no_torch() -> None:
    code = (
        "import sys, aligner.kit.declare, aligner.kit.rows\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
