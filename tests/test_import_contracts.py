"""Modules import one another only as tests/import_contracts.toml allows."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
TEXT = (Path(__file__).parent / "import_contracts.toml").read_text("utf-8")


def plugins() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return sorted(project["entry-points"]["aligner"].values())


def check(text: str, folder: Path, *contracts: str) -> bool:
    path = folder / "contracts.toml"
    path.write_text(text.replace('"PLUGINS"', ", ".join(f'"{name}"' for name in plugins())))
    return not lint_imports(
        config_filename=str(path),
        limit_to_contracts=contracts,
        cache_dir=str(ROOT / ".import_linter_cache"),
        no_logo=True,
    )


def test_every_package_of_plugins_is_an_entry_point() -> None:
    assert plugins() == sorted(p.parent.name for p in (ROOT / "plugins").glob("*/__init__.py"))


def test_every_import_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = check(TEXT, tmp_path)
    assert kept, f"\n{capsys.readouterr().out}"


def test_an_import_against_the_layers_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = '"recipe",\n  "state",\n  "errors",'
    assert not check(TEXT.replace(layers, '"errors",\n  "recipe",\n  "state",'), tmp_path, "layers")
    assert "aligner.recipe is not allowed to import aligner.errors" in capsys.readouterr().out
