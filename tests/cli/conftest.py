"""A working folder with a recipe of toy stages from a third-party distribution."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"
ROOT = Path(__file__).parents[2]
RECIPE = """\
name: small
seed: 7
steps:
  - stage: make
  - stage: tune
  - stage: tune
    as: again
    rate: 0.5
    gate:
      accuracy: ">= 0.5"
  - stage: measure
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder with `small.yaml` and the installed plugin `toy`."""
    site = tmp_path / "site"
    metadata = site / "toy_stages-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-stages\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[aligner]\ntoy = toy\n")
    shutil.copy(PLUGIN / "toy.py", site)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
    monkeypatch.setenv("ALIGNER_ONLY_PLUGINS", "toy")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    here = tmp_path / "desk"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "small.yaml").write_text(RECIPE)
    return here


@pytest.fixture
def aligner(desk: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: its exit code, standard output and standard error."""
    from aligner.cli import main

    def act(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act
