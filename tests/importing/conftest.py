"""Other tools' recipes, rewritten by hand from what they publish, and a way to import them."""

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
Brought = Callable[[str], tuple[list[dict[str, Any]], str]]


@pytest.fixture
def bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Import:
    """Import files of a tool's into `out.yaml` of an empty folder: exit code, output, errors."""

    def act(tool: str, *names: str, also: tuple[str, ...] = ()) -> tuple[int, str, str]:
        shutil.copytree(FIXTURES / tool, tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        code = main(["import", *names, "--out", "out.yaml", *also])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


@pytest.fixture
def brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Brought:
    """The steps that a file with this text becomes, and what is said about it."""

    def act(text: str) -> tuple[list[dict[str, Any]], str]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "r.yaml").unlink(missing_ok=True)
        assert main(["import", "f.yaml", "--out", "r.yaml"]) == 0
        steps = yaml.safe_load((tmp_path / "r.yaml").read_text("utf-8"))["steps"]
        return steps, capsys.readouterr().out

    return act
