"""A recipe that is checked again, or run after it was checked, prepares nothing anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aligner.data.encoding import pipeline
from aligner.testing import conversations
from aligner.testing.run import recipe_for
from aligner_sft.options import SFTOptions
from aligner_sft.stage import SFT


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every row that is encoded, from now on."""
    rows: list[Any] = []
    send = pipeline.EncodeQueue.send

    def sent(line: Any, side: Any, entry: int, part: list[Any]) -> None:
        rows.extend(part)
        send(line, side, entry, part)

    monkeypatch.setattr(pipeline.EncodeQueue, "send", sent)
    return rows


def stage(**options: Any) -> SFT:
    return SFT(
        SFTOptions(data="talks.jsonl", max_steps=1, per_device_train_batch_size=2, **options)
    )  # type: ignore[arg-type]


def test_a_check_a_second_one_a_run_and_another_recipe_share_what_was_prepared(
    tmp_path: Path, encoded: list[Any]
) -> None:
    files, runs = {"talks.jsonl": conversations()}, tmp_path / "runs"
    recipe = recipe_for(stage(), tmp_path, files=files)
    plan = recipe.check(runs=runs).plans["sft"]
    assert len(encoded) == plan.rows
    encoded.clear()
    again = recipe_for(stage(), tmp_path, files=files).check(runs=runs).plans["sft"]
    other = recipe_for(stage(learning_rate=0.5, limits={"truncated": 1}), tmp_path, files=files)
    assert other.check(runs=runs).plans["sft"].rows == plan.rows
    other.run(runs=runs, show=False)
    assert encoded == []
    for part in ("rows", "tokens", "data", "ledgers", "notes"):
        assert getattr(again, part) == getattr(plan, part)
    assert len([item for item in (runs / ".data").iterdir() if item.name != ".locks"]) == 1
    recipe.check(runs=tmp_path / "elsewhere")
    assert len(encoded) == plan.rows


def test_rows_for_a_trainer_leave_no_file_in_the_steps_folder(tmp_path: Path) -> None:
    files = {"talks.jsonl": conversations()}
    result = recipe_for(stage(hold_out=0.3), tmp_path, files=files).run(
        runs=tmp_path / "runs", show=False
    )
    left = [path.name for path in result["sft"].folder.rglob("*") if "rows" in path.name]
    assert left == []
