from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.chain import StepFailed, StepFinished, StepProgress, StepReused, StepStarted
from aligner.errors import ChainError, GateError, StageError, Stopped

THREE = """\
steps:
  - {stage: begin, text: a}
  - {stage: grow, as: two, text: b}
  - {stage: grow, as: three, text: c}
"""

Go = Callable[..., Any]


def policy(result: Any) -> str:
    return (Path(result.outcome.state.policy.path) / "text").read_text()


def test_each_step_starts_from_the_state_after_the_step_before_it(go: Go) -> None:
    result = go(THREE)
    assert result.error is None
    assert policy(result) == "abc"
    assert result.outcome.state.policy.made_by == "three"
    assert result.outcome.state.tokenizer.made_by == "begin"
    assert [(row.step, dict(row.metrics), row.reused) for row in result.outcome.steps] == [
        ("begin", {"length": 1.0}, False),
        ("two", {"length": 2.0}, False),
        ("three", {"length": 3.0}, False),
    ]


def test_a_finished_run_started_again_does_nothing(go: Go) -> None:
    go(THREE)
    again = go(THREE)
    assert again.ran == []
    assert policy(again) == "abc"
    assert [row.reused for row in again.outcome.steps] == [True, True, True]
    assert {type(event) for event in again.events[:-1]} == {StepReused}


def test_changing_the_third_step_reruns_only_the_third(go: Go) -> None:
    go(THREE)
    changed = go(THREE, overrides=["three.text=d"])
    assert changed.ran == ["three"]
    assert policy(changed) == "abd"


def test_changing_the_second_step_reruns_it_and_the_following_steps(go: Go) -> None:
    go(THREE)
    assert go(THREE, overrides=["two.text=d"]).ran == ["two", "three"]


def test_a_rerun_with_an_equal_result_does_not_rerun_the_following_steps(go: Go) -> None:
    go(THREE)
    # The second step's data is named otherwise, so it runs; its result is equal, so the third does not.
    assert go(THREE, overrides=["two.fail=nothing"]).ran == ["two"]


def test_an_option_that_determines_nothing_reruns_nothing(go: Go) -> None:
    go(THREE)
    assert go(THREE, overrides=["two.cheer=hurrah"]).ran == []


def test_another_seed_reruns_everything(go: Go) -> None:
    go(THREE)
    assert go(THREE, overrides=["seed=2"]).ran == ["begin", "two", "three"]


def test_another_recipe_shares_the_steps_it_has_in_common_under_other_names(go: Go) -> None:
    go(THREE)
    other = go(
        "steps:\n  - {stage: begin, as: start, text: a}\n  - {stage: grow, text: z}\n", name="other"
    )
    assert other.ran == ["grow"]
    assert other.outcome.state.tokenizer.made_by == "start"
    assert policy(other) == "az"


def test_a_failed_step_stops_the_chain_and_finished_steps_stay(go: Go, tmp_path: Path) -> None:
    failed = go(THREE, overrides=["three.fail=run"])
    assert isinstance(failed.error, RuntimeError)
    assert failed.error.__notes__ == [
        f"while running step 'three' ({tmp_path}/mine.yaml:4)",
    ]
    assert isinstance(failed.events[-1], StepFailed)
    assert go(THREE).ran == ["three"]


def test_a_failed_step_is_not_followed_by_the_next(go: Go) -> None:
    assert go(THREE, overrides=["two.fail=run"]).ran == ["begin", "two"]


def test_an_interrupted_run_has_a_hint_how_to_resume_and_exit_code_75(
    go: Go, tmp_path: Path
) -> None:
    stopped = go(THREE, overrides=["three.fail=stop"])
    assert isinstance(stopped.error, Stopped)
    assert stopped.error.exit_code == 75
    assert str(stopped.error) == (
        f"{tmp_path}/mine.yaml:4: interrupted in step 'three'; the steps before it are kept\n"
        "  hint: run the same command again to resume"
    )
    assert go(THREE).ran == ["three"]


def test_a_stage_that_changes_an_undeclared_slot_fails(go: Go, tmp_path: Path) -> None:
    result = go(THREE, overrides=["two.fail=slot"])
    assert isinstance(result.error, StageError)
    assert str(result.error) == (
        f"{tmp_path}/mine.yaml:3: stage 'grow' left [] empty and changed ['value']\n"
        "  hint: it declares provides=['policy']"
    )


def test_a_stage_that_empties_slots_fails(go: Go) -> None:
    result = go(THREE, overrides=["two.fail=empty"])
    assert (
        str(result.error)
        .splitlines()[0]
        .endswith("stage 'grow' left ['policy'] empty and changed ['tokenizer']")
    )


def test_until_stops_after_the_step_and_a_later_run_continues(go: Go) -> None:
    assert go(THREE, until="two").ran == ["begin", "two"]
    assert go(THREE).ran == ["three"]


def test_from_reruns_the_step_and_the_following_steps(go: Go) -> None:
    go(THREE)
    assert go(THREE, start_from="two").ran == ["two", "three"]


def test_from_requires_that_the_steps_before_it_have_finished(go: Go, tmp_path: Path) -> None:
    result = go(THREE, start_from="two")
    assert isinstance(result.error, ChainError)
    assert str(result.error) == (
        f"{tmp_path}/mine.yaml:2: step 'begin' has not finished with these options\n"
        "  hint: run without --from: finished steps are reused anyway"
    )


def test_fresh_runs_every_step_again(go: Go) -> None:
    go(THREE)
    assert go(THREE, fresh=True).ran == ["begin", "two", "three"]


def test_until_an_unknown_step_is_an_error_with_the_closest_name(go: Go, tmp_path: Path) -> None:
    assert str(go(THREE, until="thre").error) == (
        f"{tmp_path}/mine.yaml: --until: there is no step 'thre'\n  hint: did you mean 'three'?"
    )


def test_a_gate_that_is_not_met_stops_the_chain_and_keeps_the_result(
    go: Go, tmp_path: Path
) -> None:
    gated = THREE.replace("text: b", "text: b, gate: {length: '> 5'}")
    result = go(gated)
    assert isinstance(result.error, GateError)
    assert result.error.exit_code == 1
    assert str(result.error) == (
        f"{tmp_path}/mine.yaml:3: step 'two' does not pass its gate: length is 2, not > 5.0\n"
        f"  hint: its result is kept in {tmp_path}/runs/mine/steps/2-two; "
        "change the gate or an earlier step, and run again"
    )
    assert result.ran == ["begin", "two"]
    # The gate alone is changed: nothing that passed it now is run again.
    assert go(gated.replace("> 5", ">= 2")).ran == ["three"]
    assert isinstance(go(gated).error, GateError)


def test_a_damaged_result_is_moved_away_and_computed_again(go: Go, tmp_path: Path) -> None:
    first = go(THREE, until="two")
    [saved] = [row.folder for row in first.outcome.steps if row.step == "two"]
    (saved / "policy" / "text").write_text("ruined")
    again = go(THREE)
    assert again.ran == ["two", "three"]
    assert policy(again) == "abc"
    moved = list((tmp_path / "runs" / ".steps").glob("*.damaged-*"))
    assert [(path / "policy" / "text").read_text() for path in moved] == ["ruined"]


def test_events_are_complete_and_in_order(go: Go) -> None:
    events = go(THREE, until="two").events
    assert [type(event) for event in events[:-1]] == [
        StepStarted,
        StepFinished,
        StepStarted,
        StepProgress,
        StepProgress,
        StepFinished,
    ]
    assert [
        (e.progress.done, e.progress.total, dict(e.progress.metrics))
        for e in events
        if isinstance(e, StepProgress)
    ] == [(1, 2, {"loss": 0.5}), (2, 2, {"loss": 0.25})]


def test_the_run_folder_has_recipe_journal_and_steps(go: Go, tmp_path: Path) -> None:
    go(THREE)
    folder = tmp_path / "runs" / "mine"
    assert sorted(path.name for path in (folder / "steps").iterdir()) == [
        "1-begin",
        "2-two",
        "3-three",
    ]
    assert "text: b" in (folder / "recipe.yaml").read_text()
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert [line["event"] for line in journal] == [
        "run started",
        *["step started", "step finished"] * 3,
        "run finished",
    ]
    curve = (folder / "steps" / "2-two" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(curve[1]) == {"done": 2, "total": 2, "unit": "step", "loss": 0.25}


def test_environment_and_random_state_are_restored(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIGNER_TEST_NOISE", raising=False)
    random.seed(5)
    expected = random.random()
    random.seed(5)
    result = go(THREE, overrides=["two.fail=noise"])
    assert result.error is None
    assert random.random() == expected
    assert "ALIGNER_TEST_NOISE" not in os.environ


@pytest.mark.parametrize("option", ["until", "start_from"])
def test_naming_the_only_step_runs_it(go: Go, option: str) -> None:
    assert go("steps:\n  - {stage: begin}\n", **{option: "begin"}).ran == ["begin"]
