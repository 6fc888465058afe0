from __future__ import annotations

from pathlib import Path

import pytest

from aligner import chain
from aligner.errors import AlignerError
from aligner.host import Host
from aligner.recipe import read_recipe


def errors_of(folder: Path, host: Host, text: str) -> str:
    path = folder / "r.yaml"
    path.write_text(text)
    with pytest.raises(AlignerError) as caught:
        chain.check(chain.link(read_recipe(path), host), host)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(folder) + "/", "")


def test_all_errors_of_a_chain_are_reported_at_once(tmp_path: Path, host: Host) -> None:
    assert errors_of(
        tmp_path,
        host,
        """\
steps:
  - {stage: begin, txet: a}
  - {stage: grow, data: missing.jsonl}
  - {stage: grwo, as: other}
  - {stage: last, data: gone.csv}
""",
    ) == (
        "r.yaml:2: stage 'begin' has no option 'txet'\n"
        "  hint: did you mean 'text'?\n"
        "r.yaml:4: no plugin offers a stage 'grwo'\n"
        "  hint: did you mean 'grow'?\n"
        "r.yaml:3: there is no file missing.jsonl\n"
        "r.yaml:5: there is no file gone.csv"
    )


def test_errors_of_the_recipe_do_not_hide_errors_of_its_steps(tmp_path: Path, host: Host) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "sede: 1\nsteps:\n  - {stage: begin}\n  - {stage: grow, txet: a}\n"
        "  - {stage: grow}\n  - {stage: last, data: gone.csv}\n"
    )
    with pytest.raises(AlignerError) as caught:
        chain.check(chain.link(read_recipe(path, keep_going=True), host), host)
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "r.yaml:1: a recipe has no key 'sede'\n"
        "  hint: did you mean 'seed'?\n"
        "r.yaml:5: two steps are called 'grow'\n"
        "  hint: the first is at r.yaml:4; give one its own name with 'as:'\n"
        "r.yaml:4: stage 'grow' has no option 'txet'\n"
        "  hint: did you mean 'text'?\n"
        "r.yaml:6: there is no file gone.csv"
    )


def test_a_slot_that_nothing_fills_names_the_stages_that_would(tmp_path: Path, host: Host) -> None:
    text = "steps:\n  - {stage: begin}\n  - {stage: last}\n"
    assert errors_of(tmp_path, host, text) == (
        "r.yaml:3: step 'last' requires 'reward', and nothing before it fills that slot\n"
        "  hint: put a step before it that fills 'reward': judge"
    )


def test_the_error_of_a_chain_without_a_model_suggests_to_name_one(
    tmp_path: Path, host: Host
) -> None:
    assert errors_of(tmp_path, host, "steps:\n  - {stage: judge}\n") == (
        "r.yaml:2: step 'judge' requires 'policy', and nothing before it fills that slot\n"
        "  hint: put a step before it that fills 'policy': begin, grow; "
        "or name a model to begin with: `model: PATH`"
    )


def test_a_gate_on_a_metric_that_the_step_does_not_compute_is_an_error(
    tmp_path: Path, host: Host
) -> None:
    text = "steps:\n  - stage: begin\n    gate:\n      lenght: '> 1'\n"
    assert errors_of(tmp_path, host, text) == (
        "r.yaml:4: step 'begin' has a gate on 'lenght', which it does not compute\n"
        "  hint: did you mean 'length'?"
    )


def test_an_error_does_not_cause_reports_of_errors_that_follow_from_it(
    tmp_path: Path, host: Host
) -> None:
    text = "steps:\n  - {stage: begin, fail: plan}\n  - {stage: grow, fail: plan}\n"
    assert errors_of(tmp_path, host, text) == "r.yaml:2: it does not fit"


def test_checking_writes_nothing(tmp_path: Path, host: Host) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("steps:\n  - {stage: begin}\n")
    chain.check(chain.link(read_recipe(path), host), host)
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]
