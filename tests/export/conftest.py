"""The command line on a small finished run, with a folder to export to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.cli import main


@pytest.fixture
def aligner(
    small_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in the run's folder: its exit code, standard output and standard error."""
    monkeypatch.chdir(small_run)

    def act(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act
