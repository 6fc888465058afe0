"""Other tools' recipes, rewritten by hand from what they publish, and a way to import them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
Import = Callable[..., tuple[int, str, str]]


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
