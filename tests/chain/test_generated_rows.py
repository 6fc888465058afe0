"""Rows that one step generates and another reads: placeholders at the check, real ones in the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aligner.api import Recipe, Step
from aligner.chain import StepFailed, StepFinished, StepStarted
from aligner.data.options import DataOptions
from aligner.data.reading.load import load_rows
from aligner.data.reading.step_datasets import forecast_rows, save_rows
from aligner.errors import AlignerError
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState
from aligner.terminal.forecast import differences


class MakerOptions(StageOptions):
    words: tuple[Any, ...] = ("one", "two")
    """A row each."""
    most: int = 3
    """Rows that there might be, as far as the plan knows."""
    says: bool = True
    """Whether the plan says so."""


class Maker(Stage[MakerOptions]):
    """Makes rows of words."""

    name = "maker"
    requires = frozenset()
    provides = frozenset({"data"})

    def plan(self, context: PlanContext) -> Plan:
        rows = [{"text": str(number)} for number in range(self.options.most)]
        slots = {"data": forecast_rows(rows, made_by=context.step)} if self.options.says else {}
        return Plan(summary="make rows", slots=slots)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        rows = [{"text": word} for word in self.options.words]
        return state.put(
            context.step, data=save_rows(rows, context.folder / "data", made_by=context.step)
        )


class ReaderOptions(DataOptions):
    pass


class Reader(Stage[ReaderOptions]):
    """Reads rows, and leaves what it read."""

    name = "reader"
    requires = frozenset()
    provides = frozenset()

    def plan(self, context: PlanContext) -> Plan:
        loaded = load_rows(self.options.data, want="text", context=context, option="data")
        return Plan(
            summary="read rows",
            rows=len(loaded.rows),
            metrics=frozenset({"planned", "read"}),
            data={"data": loaded.hash},
            ledgers={"data": loaded.ledger.as_dict()},
        )

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        loaded = load_rows(self.options.data, want="text", context=context, option="data")
        texts = [row.text for row in loaded.rows]  # type: ignore[attr-defined]
        (context.folder / "read.json").write_text(json.dumps(texts))
        context.record(planned=context.plan.rows or 0, read=len(texts))
        return state


def chain(
    tmp_path: Path, *, reads: Any = None, named: str = "maker", **plugin_version: Any
) -> Recipe:
    made = Step(stage=Maker(MakerOptions(**plugin_version)), name=named)
    reader = Reader(ReaderOptions(data=reads or {"step": named}))
    return Recipe([made, reader], folder=tmp_path)


def run(recipe: Recipe, tmp_path: Path) -> Any:
    return recipe.run(runs=tmp_path / "runs", show=False)


def read(result: Any) -> list[str]:
    texts: list[str] = json.loads((Path(result["reader"].folder) / "read.json").read_text())
    return texts


def test_a_stage_with_data_options_reads_generated_rows_without_further_code(
    tmp_path: Path,
) -> None:
    """The check counts placeholders; the running step has the real rows, and its plan counts them."""
    recipe = chain(tmp_path)
    assert recipe.check(runs=tmp_path / "runs").plans["reader"].rows == 3
    result = run(recipe, tmp_path)
    assert read(result) == ["one", "two"]
    assert result["reader"].metrics == {"planned": 2, "read": 2}
    account = json.loads((Path(result["reader"].folder) / "ledger.json").read_text())
    assert account["data"]["read"] == 2


def test_filters_keep_placeholder_answers_and_apply_to_the_real_rows(
    tmp_path: Path,
) -> None:
    reads = {"step": "maker", "clean": {"min_chars": 4}}
    recipe = chain(tmp_path, reads=reads, words=("one", "three"))
    assert recipe.check(runs=tmp_path / "runs").plans["reader"].rows == 3
    assert read(run(recipe, tmp_path)) == ["three"]


def test_generated_rows_are_combined_with_files(tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text('{"text": "three"}\n')
    result = run(chain(tmp_path, reads=[{"step": "maker"}, {"path": "more.jsonl"}]), tmp_path)
    assert read(result) == ["one", "two", "three"]


def test_only_the_content_of_generated_rows_decides_about_a_rerun(tmp_path: Path) -> None:
    def reused(**plugin_version: Any) -> bool:
        return bool(run(chain(tmp_path, **plugin_version), tmp_path)["reader"].reused)

    assert not reused()
    assert reused()
    assert reused(named="another"), "names do not count"
    assert not reused(words=("one", "other"))
    assert not reused(most=4), "another plan may be another reading"


def test_generated_rows_are_found_after_the_runs_were_moved(tmp_path: Path) -> None:
    run(chain(tmp_path), tmp_path)
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    again = Recipe(
        [
            Maker(MakerOptions()),
            Reader(ReaderOptions(data={"step": "maker"}, max_length=7)),
        ],
        folder=tmp_path,
    )
    result = again.run(runs=tmp_path / "moved", show=False)
    assert result["maker"].reused
    assert not result["reader"].reused
    assert read(result) == ["one", "two"]


def test_a_malformed_row_ends_the_step_that_reads_it_before_it_trains(tmp_path: Path) -> None:
    events: list[Any] = []
    with pytest.raises(AlignerError) as error:
        chain(tmp_path, words=("one", 2)).run(
            runs=tmp_path / "runs", show=False, on_event=events.append
        )
    assert [type(event) for event in events] == [StepStarted, StepFinished, StepStarted, StepFailed]
    assert str(error.value) == "maker:2: field 'text' should be text, not the number 2"


def test_a_step_without_a_forecast_of_its_rows_is_an_error_for_the_reader(tmp_path: Path) -> None:
    with pytest.raises(AlignerError) as error:
        chain(tmp_path, says=False).check(runs=tmp_path / "runs")
    assert str(error.value) == (
        "steps[1].data: step 'maker' does not state which rows it will generate"
    )


def test_a_change_of_generated_rows_is_explained(tmp_path: Path) -> None:
    then, now = ({"step_rows": {"data.0.step": digest}} for digest in ("a", "b"))
    assert list(differences(then, now)) == ["rows generated for 'data'"]
