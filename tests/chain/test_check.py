from __future__ import annotations

from pathlib import Path

import pytest

from aligner import chain
from aligner.errors import AlignerError
from aligner.host import Host
from aligner.recipe import read_recipe


def complaints(folder: Path, host: Host, text: str) -> str:
    path = folder / "r.yaml"
    path.write_text(text)
    with pytest.raises(AlignerError) as caught:
        chain.check(chain.link(read_recipe(path), host), host)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(folder) + "/", "")


def test_everything_wrong_with_a_chain_is_said_at_once(tmp_path: Path, host: Host) -> None:
    assert complaints(
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


def test_what_is_wrong_with_the_recipe_itself_does_not_hide_the_rest(
    tmp_path: Path, host: Host
) -> None:
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
    assert complaints(tmp_path, host, text) == (
        "r.yaml:3: step 'last' requires 'reward', and nothing before it fills that slot\n"
        "  hint: put a step before it that fills 'reward': judge"
    )


def test_a_chain_without_a_model_says_that_one_may_be_named(tmp_path: Path, host: Host) -> None:
    assert complaints(tmp_path, host, "steps:\n  - {stage: judge}\n") == (
        "r.yaml:2: step 'judge' requires 'policy', and nothing before it fills that slot\n"
        "  hint: put a step before it that fills 'policy': begin, grow; "
        "or name a model to begin with: `model: PATH`"
    )


def test_a_gate_on_a_figure_nobody_computes_is_found(tmp_path: Path, host: Host) -> None:
    text = "steps:\n  - stage: begin\n    gate:\n      lenght: '> 1'\n"
    assert complaints(tmp_path, host, text) == (
        "r.yaml:4: step 'begin' has a gate on 'lenght', which it does not compute\n"
        "  hint: did you mean 'length'?"
    )


def test_one_fault_does_not_raise_others_that_only_follow_from_it(
    tmp_path: Path, host: Host
) -> None:
    text = "steps:\n  - {stage: begin, fail: plan}\n  - {stage: grow, fail: plan}\n"
    assert complaints(tmp_path, host, text) == "r.yaml:2: it does not fit"


def test_checking_writes_nothing(tmp_path: Path, host: Host) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("steps:\n  - {stage: begin}\n")
    chain.check(chain.link(read_recipe(path), host), host)
    assert [one.name for one in tmp_path.iterdir()] == ["r.yaml"]
