"""`aligner preview`: selection of rows and steps, output formats, and errors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.cli import main

RECIPE = """\
name: small
model: {base}
steps:
  - stage: sft
    data: {desk}/talks.jsonl
  - stage: dpo
    data: {desk}/pairs.jsonl
    hold_out: 0.25
"""

Aligner = Callable[..., tuple[int, str, str]]


@pytest.fixture
def aligner(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Aligner:
    """Run a command line beside `small.yaml`: its exit code, standard output and standard error."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    Path("small.yaml").write_text(RECIPE.format(base=desk / "base", desk=desk))

    def act(*words: str) -> tuple[int, str, str]:
        code = main(["preview", "--runs", str(tmp_path / "runs"), *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act


def test_every_step_that_reads_rows_shows_its_first_two(aligner: Aligner) -> None:
    code, out, err = aligner("small.yaml")
    assert (code, err) == (0, "")
    heads = [line for line in out.splitlines() if line[:1].isdigit()]
    assert heads == ["1 sft  small.yaml:4", "2 dpo  small.yaml:6"]
    assert [line.split()[1] for line in out.splitlines() if line.startswith("  row ")] == [
        "1",
        "2",
    ] * 2
    assert os.listdir() == ["small.yaml"], "looking leaves nothing behind"


def test_one_step_and_some_rows_can_be_selected(aligner: Aligner, desk: Path) -> None:
    code, out, _ = aligner("small.yaml", "--step", "sft", "--row", "3", "--row", "talks.jsonl:2")
    rows = [line for line in out.splitlines() if line.startswith("  row ")]
    assert code == 0
    assert rows == [f"  row 3  {desk}/talks.jsonl:3", f"  row 2  {desk}/talks.jsonl:2"]
    assert "dpo" not in out


def test_set_overrides_an_option_as_for_a_run(aligner: Aligner) -> None:
    _, out, _ = aligner(
        "small.yaml", "--step", "sft", "--rows", "1", "--set", "sft.per_device_train_batch_size=1"
    )
    assert "batch of row 1: 1 × 8 = 8 positions: 3 trained (38%), 5 masked (62%)\n" in out


def test_held_out_rows_can_be_shown(aligner: Aligner) -> None:
    code, out, _ = aligner("small.yaml", "--held-out", "--step", "dpo")
    assert code == 0
    assert "  data: 3 rows held out\n" in out


def test_a_missing_row_is_reported(aligner: Aligner) -> None:
    code, out, err = aligner("small.yaml", "--step", "sft", "--row", "9")
    assert (code, out) == (2, "")
    assert err == (
        "small.yaml:5: step 'sft' has no row 9: there are 3 rows to train on\n"
        "  hint: rows are numbered from 1, or named by where they are written, FILE:LINE; "
        "`aligner check --verbose` tells which were left out\n"
    )


def test_a_missing_validation_row_is_reported(aligner: Aligner) -> None:
    code, _, err = aligner("small.yaml", "--step", "sft", "--held-out", "--row", "1")
    assert code == 2
    assert err == (
        "small.yaml:5: step 'sft' has no row 1: there are 0 rows held out\n"
        "  hint: leave --held-out away, or give eval_data, or a share to hold_out\n"
    )


def test_an_unknown_step_is_reported(aligner: Aligner) -> None:
    code, out, err = aligner("small.yaml", "--step", "dqo")
    assert (code, out) == (2, "")
    assert err == "small.yaml: no step of the recipe is called 'dqo'\n  hint: did you mean 'dpo'?\n"


def test_an_error_in_one_step_does_not_hide_another_step(aligner: Aligner) -> None:
    code, out, err = aligner("small.yaml", "--set", "dpo.data=pears.jsonl", "--rows", "1")
    assert code == 2
    assert "1 sft  small.yaml:4\n" in out
    assert "2 dpo" not in out
    assert (
        err
        == "--set dpo.data=pears.jsonl: no file or folder 'pears.jsonl'\n  hint: known: small.yaml\n"
    )
    code, out, err = aligner("small.yaml", "--set", "dpo.data=pears.jsonl", "--step", "sft")
    assert (code, err) == (0, ""), "later steps are not looked at"


def test_all_errors_of_a_recipe_are_raised_at_once(aligner: Aligner, desk: Path) -> None:
    text = RECIPE.format(base=desk / "base", desk=desk)
    text = text.replace("hold_out", "hold_aut").replace("talks.jsonl", "talks.jsonl\n    bta: 1")
    Path("small.yaml").write_text(text)
    code, out, err = aligner("small.yaml")
    assert (code, out) == (2, "")
    assert [line.split(" ")[0] for line in err.splitlines() if "hint" not in line] == [
        "small.yaml:6:",
        "small.yaml:9:",
    ]


def test_a_requested_step_without_rows_is_reported(aligner: Aligner) -> None:
    Path("small.yaml").write_text(
        Path("small.yaml")
        .read_text()
        .replace("steps:\n", "steps:\n  - stage: chat\n    template: tiny\n")
    )
    code, out, _ = aligner("small.yaml", "--step", "chat")
    assert code == 0
    assert out.endswith("\n1 chat  small.yaml:4\n  this step has no rows to preview\n")
    _, out, _ = aligner("small.yaml", "--rows", "1")
    assert "chat" not in out


def test_json_has_every_token_and_the_errors(aligner: Aligner) -> None:
    code, out, err = aligner("small.yaml", "--json", "--rows", "1", "--set", "dpo.data=pears.jsonl")
    output = json.loads(out)
    assert (code, err) == (2, "")
    assert [step["step"] for step in output["steps"]] == ["sft"]
    (section,) = output["steps"][0]["sections"]
    (sequence,) = section["rows"][0]["sequences"]
    assert sequence["tokens"][0]["text"] == "<|user|>"
    assert sequence["tokens"][0]["role"] == "masked"
    assert sequence["tokens"][0]["special"] is True
    assert sequence["counts"] == {"trained": 3, "masked": 5, "padding": 5}
    assert output["errors"] == [
        {
            "where": "--set dpo.data=pears.jsonl",
            "what": "no file or folder 'pears.jsonl'",
            "hint": "known: small.yaml",
        }
    ]


def test_an_html_page_is_written_and_nothing_is_printed(aligner: Aligner) -> None:
    code, out, err = aligner("small.yaml", "--html", "page.html")
    assert (code, err) == (0, "")
    assert out.startswith("wrote page.html (")
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, out, err = aligner("small.yaml", "--html", "nowhere/page.html")
    assert (code, out) == (2, "")
    assert err == (
        "nowhere/page.html: the page cannot be written: No such file or directory\n"
        "  hint: name a file in an existing folder with write permission\n"
    )


def test_width_sets_the_width_of_the_output(aligner: Aligner) -> None:
    _, out, _ = aligner("small.yaml", "--step", "dpo", "--width", "60")
    assert max(map(len, out.splitlines())) <= 60


@pytest.mark.parametrize(
    "words", [("--rows", "0"), ("--row", "1", "--rows", "2"), ("--width", "x")]
)
def test_an_invalid_command_line_is_refused(aligner: Aligner, words: tuple[str, ...]) -> None:
    code, out, err = aligner("small.yaml", *words)
    assert (code, out) == (2, "")
    assert err.startswith("aligner preview: ")
