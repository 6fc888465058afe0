"""The command line on a small finished run, and its last model."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.chat.model import ChatModel, load_chat_model
from aligner.cli import main
from aligner.run.selection import find_run, select_step


@pytest.fixture(scope="session")
def model(small_run: Path) -> ChatModel:
    """The last policy of the run, of step `dpo`."""
    return load_chat_model(select_step(find_run(small_run / "runs", "small"), None, slot="policy"))


@pytest.fixture
def aligner(
    small_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in the run's folder with `typed` on standard input: exit code, output, errors."""
    monkeypatch.chdir(small_run)
    monkeypatch.setenv("COLUMNS", "80")

    def act(*words: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act
