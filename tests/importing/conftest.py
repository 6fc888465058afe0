"""Configuration files of other tools, written by hand after their examples, and fixtures that import them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aligner.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
Import = Callable[..., tuple[int, str, str]]
ImportText = Callable[[str], tuple[list[dict[str, Any]], str]]


@pytest.fixture
def import_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Import:
    """Import the fixture files of a tool into `out.yaml`; return exit code, output and errors."""

    def act(tool: str, *names: str, also: tuple[str, ...] = ()) -> tuple[int, str, str]:
        shutil.copytree(FIXTURES / tool, tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        code = main(["import", *names, "--out", "out.yaml", *also])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act


@pytest.fixture
def import_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> ImportText:
    """Import a file with this text; return the steps and the output."""

    def act(text: str) -> tuple[list[dict[str, Any]], str]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "r.yaml").unlink(missing_ok=True)
        assert main(["import", "f.yaml", "--out", "r.yaml"]) == 0
        steps = yaml.safe_load((tmp_path / "r.yaml").read_text("utf-8"))["steps"]
        return steps, capsys.readouterr().out

    return act
