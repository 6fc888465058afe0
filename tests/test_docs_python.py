"""Every block of `docs/python.md` runs, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_code import blocks

from aligner.testing import conversations, preferences, write_files, write_tiny

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_every_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "base")
    write_files(tmp_path, {"talks.jsonl": conversations(), "pairs.jsonl": preferences()})
    code_blocks = blocks(PAGE.read_text("utf-8"))
    assert len(code_blocks) == 12
    names: dict[str, object] = {"__name__": "page"}
    for code in code_blocks:
        exec(compile(code, str(PAGE), "exec"), names)
    output = capsys.readouterr().out
    assert "no errors; 0 of 2 steps are done, 2 would run" in output
    assert "[2/2] dpo: done in" in output
