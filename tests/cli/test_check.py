"""`aligner check`: its output, wide, narrow and as JSON, and every reason to run a step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Aligner = Callable[..., tuple[int, str, str]]

WIDE = """\
small
recipe small.yaml
model  none
seed   7

    step      reads        writes          rows   tokens   steps         trained
────────────────────────────────────────────────────────────────────────────────
1   make                   policy
                           tokenizer
2   tune      policy       policy       120,500    2.05M       4   1,000 of 260k
              tokenizer
3   again     policy       policy       120,500    2.05M       4   1,000 of 260k
              tokenizer
4   measure   policy

1 make  small.yaml:4
  stage  make (plugin toy 1.2)
  task   a new model, 8 wide
  status runs: not run yet

2 tune  small.yaml:5
  stage     tune (plugin toy 1.2)
  task      4 steps at rate 0.1
  adapters  none comes in; all weights are trained
  reference the policy as 'make' left it
  data      lines: read 121,000 · too long 500 · kept 120,500
  note      no eval_data: nothing is measured on held-out rows
  status    runs: step 'make' before it runs

3 again  small.yaml:6
  stage     tune (plugin toy 1.2)
  task      4 steps at rate 0.5
  adapters  none comes in; all weights are trained
  reference the policy as 'make' left it
  data      lines: read 121,000 · too long 500 · kept 120,500
  gate      accuracy >= 0.5
  note      no eval_data: nothing is measured on held-out rows
  status    runs: step 'make' before it runs

4 measure  small.yaml:11
  stage  measure (plugin toy 1.2)
  task   3 prompts
  status runs: step 'make' before it runs

no errors; 0 of 4 steps are done, 4 would run
"""

NARROW = """\
2 tune  small.yaml:5
  stage     tune (plugin toy 1.2)
  task      4 steps at rate 0.1
  reads     policy, tokenizer
  writes    policy
  size      rows 120,500 ·
            tokens 2.05M · steps 4 ·
            trained 1,000 of 260k
  adapters  none comes in; all weights
            are trained
  reference the policy as 'make' left it
  data      lines: read 121,000 ·
            too long 500 · kept 120,500
  note      no eval_data: nothing is
            measured on held-out rows
  status    runs: step 'make' before it
            runs
"""


def forecasts(aligner: Aligner, *words: str) -> list[tuple[str, str, str, list[str]]]:
    code, out, err = aligner("check", "small.yaml", "--json", *words)
    assert (code, err) == (0, "")
    steps: list[dict[str, Any]] = json.loads(out)["steps"]
    return [(s["status"], s["run"] or "", s["reason"], s["differences"]) for s in steps]


def test_check_shows_the_plan_of_every_step_and_writes_nothing(aligner: Aligner) -> None:
    assert aligner("check", "small.yaml") == (0, WIDE, "")
    assert not Path("runs").exists()


def test_check_in_forty_columns_has_the_same_content_and_no_longer_line(
    aligner: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = aligner("check", "small.yaml")
    assert NARROW in out
    assert max(map(len, out.splitlines())) <= 40


def test_verbose_shows_the_whole_ledger(aligner: Aligner) -> None:
    _, out, _ = aligner("check", "small.yaml", "--verbose")
    assert "            read: 121000\n            too_long: 500\n            kept: 120500\n" in out


def test_check_as_json_has_every_value_of_a_step(aligner: Aligner) -> None:
    _, out, _ = aligner("check", "small.yaml", "--json")
    answer = json.loads(out)
    assert {k: v for k, v in answer.items() if k != "steps"} == {
        "recipe": "small.yaml",
        "name": "small",
        "seed": 7,
        "model": None,
    }
    assert answer["steps"][2] == {
        "number": 3,
        "step": "again",
        "stage": "tune",
        "plugin": "toy 1.2",
        "where": "small.yaml:6",
        "reads": ["policy", "tokenizer"],
        "uses": [],
        "writes": ["policy"],
        "summary": "4 steps at rate 0.5",
        "rows": 120500,
        "tokens": 2048000,
        "optimizer_steps": 4,
        "trained": 1000,
        "parameters": 260032,
        "incoming": "none comes in; all weights are trained",
        "reference": "the policy as 'make' left it",
        "gate": {"accuracy": ">= 0.5"},
        "metrics": ["accuracy", "loss"],
        "data": {"lines": "ab" * 32},
        "ledgers": {"lines": {"read": 121000, "too_long": 500, "kept": 120500}},
        "notes": ["no eval_data: nothing is measured on held-out rows"],
        "status": "runs",
        "run": None,
        "reason": "step 'make' before it runs",
        "differences": [],
    }


def test_all_errors_are_reported_at_once_in_text_and_in_json(aligner: Aligner) -> None:
    Path("bad.yaml").write_text("steps:\n  - stage: tune\n    raet: 1\n  - stage: tnue\n")
    code, out, err = aligner("check", "bad.yaml")
    assert (code, out) == (2, "")
    assert "bad.yaml:3: stage 'tune' has no option 'raet'\n  hint: did you mean 'rate'?\n" in err
    assert "bad.yaml:4: no plugin offers a stage 'tnue'\n  hint: did you mean 'tune'?\n" in err
    code, out, err = aligner("check", "bad.yaml", "--json")
    assert (code, err) == (2, "")
    assert {
        "where": "bad.yaml:3",
        "what": "stage 'tune' has no option 'raet'",
        "hint": "did you mean 'rate'?",
    } in json.loads(out)["errors"]


def test_after_a_run_every_step_is_done(aligner: Aligner) -> None:
    aligner("run", "small.yaml", "--quiet")
    assert forecasts(aligner) == [("reused", "small", "", [])] * 4
    assert aligner("check", "small.yaml")[1].endswith(
        "  status done: reused from run 'small'\n\nno errors; 4 of 4 steps are done, 0 would run\n"
    )


def test_check_lists_the_changes_of_a_step_and_the_run_it_is_compared_with(
    aligner: Aligner,
) -> None:
    aligner("run", "small.yaml", "--quiet")
    assert forecasts(aligner, "--set", "again.rate=0.7", "--set", "again.steps=5") == [
        ("reused", "small", "", []),
        ("reused", "small", "", []),
        ("runs", "small", "changed since run 'small'", ["rate 0.5 → 0.7", "steps 4 → 5"]),
        ("runs", "", "step 'again' before it runs", []),
    ]
    _, out, _ = aligner("check", "small.yaml", "--set", "again.rate=0.7")
    assert "  status    runs: changed since run 'small': rate 0.5 → 0.7\n" in out


def test_a_changed_seed_is_listed(aligner: Aligner) -> None:
    aligner("run", "small.yaml", "--quiet")
    assert forecasts(aligner, "--set", "seed=8")[0] == (
        "runs",
        "small",
        "changed since run 'small'",
        ["seed 7 → 8"],
    )


def test_an_option_that_does_not_determine_the_result_does_not_rerun_a_step(
    aligner: Aligner,
) -> None:
    aligner("run", "small.yaml", "--quiet")
    assert forecasts(aligner, "--set", "tune.log_every=2")[1] == ("reused", "small", "", [])


def test_a_step_is_compared_with_the_run_of_the_same_name_before_a_more_similar_one(
    aligner: Aligner,
) -> None:
    aligner("run", "small.yaml", "--quiet")
    two = ("--set", "again.rate=0.7", "--set", "again.steps=5")
    aligner("run", "small.yaml", "--quiet", "--name", "other", *two)
    three = ("--set", "again.rate=0.7", "--set", "again.steps=6")
    assert forecasts(aligner, *three)[2][1] == "small"
    assert forecasts(aligner, *three, "--name", "third")[2][1] == "other"


def test_a_step_with_a_checkpoint_resumes(aligner: Aligner) -> None:
    stopped = ("--set", "again.error=stop")
    assert aligner("run", "small.yaml", "--quiet", *stopped)[0] == 75
    assert forecasts(aligner, *stopped)[2] == ("runs", "", "resumes from a checkpoint", [])


def test_fresh_from_and_until_change_the_forecast(aligner: Aligner) -> None:
    aligner("run", "small.yaml", "--quiet")
    assert forecasts(aligner, "--fresh") == [("runs", "", "requested by --fresh", [])] * 4
    assert forecasts(aligner, "--from", "again", "--until", "again") == [
        ("reused", "small", "", []),
        ("reused", "small", "", []),
        ("runs", "", "requested by --from again", []),
        ("skipped", "", "after --until again", []),
    ]


def test_from_and_until_must_name_steps_and_steps_before_from_must_have_finished(
    aligner: Aligner,
) -> None:
    assert aligner("check", "small.yaml", "--until", "agian") == (
        2,
        "",
        "small.yaml: --until: there is no step 'agian'\n  hint: did you mean 'again'?\n",
    )
    assert aligner("check", "small.yaml", "--from", "again") == (
        2,
        "",
        "small.yaml:4: step 'make' has not finished with these options\n"
        "  hint: run without --from: finished steps are reused anyway\n",
    )
