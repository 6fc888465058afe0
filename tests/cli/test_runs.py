"""`aligner runs`: the list, one run, and the removal of unused files."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.data.store.cache import Cache

Aligner = Callable[..., tuple[int, str, str]]

LIST = """\
run     status            steps   SSSSSS   updated
───────────────────────────────────────────────────────────
other   failed in again     2/4   SSSSSS   DDDDDDDDDD TTTTT
small   finished            4/4   SSSSSS   DDDDDDDDDD TTTTT
"""
ONE = """\
small
status  finished
started DDDDDDDDDD TTTTT
updated DDDDDDDDDD TTTTT
steps   4/4
folder  runs/small
size    SSSSSS · SSSSSS of it shared with other runs

    step       time   metrics
─────────────────────────────────────────────────
1   make      0.0 s
2   tune      0.0 s   loss 0.7143 · accuracy 0.75
3   again     0.0 s   loss 0.3333 · accuracy 0.75
4   measure   0.0 s   score 0.5
"""
NARROW = """\
other
  failed in again · 2/4 · SSSSSS ·
  DDDDDDDDDD TTTTT
small
  finished · 4/4 · SSSSSS ·
  DDDDDDDDDD TTTTT
"""


def masked(text: str) -> str:
    """Replace sizes and dates in `text` by letters of the same width."""
    text = re.sub(r"\d\.\d kB|  size", "SSSSSS", text)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DDDDDDDDDD TTTTT", text)


@pytest.fixture
def two_runs(aligner: Aligner) -> Aligner:
    aligner("run", "small.yaml", "--quiet")
    aligner("run", "small.yaml", "--quiet", "--name", "other", "--set", "again.error=library")
    return aligner


def test_runs_are_listed_with_their_status(two_runs: Aligner) -> None:
    code, out, err = two_runs("runs")
    assert (code, masked(out), err) == (0, LIST, "")


def test_runs_in_forty_columns_are_a_list(
    two_runs: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert masked(two_runs("runs")[1]) == NARROW


def test_one_run_is_shown_with_all_metrics(two_runs: Aligner) -> None:
    code, out, err = two_runs("runs", "small")
    assert (code, masked(out), err) == (0, ONE, "")


def test_a_stopped_run_is_listed_as_stopped_and_one_that_was_killed_as_interrupted(
    aligner: Aligner,
) -> None:
    aligner("run", "small.yaml", "--quiet", "--set", "again.error=stop")
    assert json.loads(aligner("runs", "--json")[1])[0]["status"] == "stopped in again"
    journal = Path("runs/small/journal.jsonl")
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-1]) + '\n{"at": "2025-01')
    assert json.loads(aligner("runs", "--json")[1])[0]["status"] == "interrupted"


def test_runs_as_json_have_every_value(two_runs: Aligner) -> None:
    listed = json.loads(two_runs("runs", "--json")[1])
    assert [(run["name"], run["status"], run["total_steps"]) for run in listed] == [
        ("other", "failed in again", 4),
        ("small", "finished", 4),
    ]
    tune = json.loads(two_runs("runs", "small", "--json")[1])["steps"][1]
    assert (tune["number"], tune["step"], tune["stage"]) == (2, "tune", "tune")
    assert tune["metrics"] == {"loss": pytest.approx(1 / 1.4), "accuracy": 0.75}
    assert (tune["shared"], tune["folder"]) == (True, "runs/small/steps/2-tune")


def test_a_folder_without_runs_is_reported(aligner: Aligner) -> None:
    assert aligner("runs", "--runs", "nowhere") == (0, "no runs in nowhere\n", "")
    assert aligner("runs", "--runs", "nowhere", "--json") == (0, "[]\n", "")


def test_an_unknown_run_is_reported_with_the_most_similar_name(two_runs: Aligner) -> None:
    assert two_runs("runs", "smal") == (
        2,
        "",
        "runs: there is no run 'smal'\n  hint: did you mean 'small'?\n",
    )


def test_prune_removes_steps_that_no_run_uses_and_nothing_else(two_runs: Aligner) -> None:
    shutil.rmtree("runs/other")
    two_runs("run", "small.yaml", "--quiet", "--name", "third", "--set", "tune.rate=0.7")
    shutil.rmtree("runs/third")
    code, out, _ = two_runs("runs", "--prune", "--yes")
    assert code == 0
    assert masked(out).splitlines()[-1] == "removed 4 folders, SSSSSS"
    assert sorted(line.split("  ")[0] for line in out.splitlines()[2:-1]) == [
        "finished step 'again'",
        "finished step 'measure'",
        "finished step 'tune'",
        "partial step",
    ]
    assert two_runs("runs", "--prune", "--yes")[1] == (
        "nothing to remove: every step belongs to a run\n"
    )
    _, out, _ = two_runs("run", "small.yaml")
    assert [line for line in out.splitlines()[:4] if "reused" not in line] == []


def test_prune_keeps_the_steps_whose_models_a_kept_step_refers_to(aligner: Aligner) -> None:
    aligner("run", "small.yaml", "--quiet")
    # As an interrupted run with a changed first step leaves it: later links lead to older steps.
    Path("runs/small/steps/1-make").unlink()
    Path("runs/small/steps/2-tune").unlink()
    _, out, _ = aligner("runs", "--prune", "--yes")
    # The tokenizer that step 3 left is that of step 1; of step 2 nothing is left in use.
    assert [line.split("  ")[0] for line in out.splitlines()[2:-1]] == ["finished step 'tune'"]


def test_prune_asks_and_without_a_terminal_to_ask_it_removes_nothing(two_runs: Aligner) -> None:
    shutil.rmtree("runs/other")
    before = sorted(Path("runs/.steps").iterdir())
    code, _, err = two_runs("runs", "--prune")
    assert (code, err) == (
        2,
        "cannot ask for confirmation: standard input is not a terminal\n"
        "  hint: add --yes to remove without asking\n",
    )
    assert sorted(Path("runs/.steps").iterdir()) == before


def test_prepared_data_is_listed_with_its_size_and_removed_when_unused_for_a_month(
    two_runs: Aligner,
) -> None:
    cache = Cache(Path("runs/.data"))

    def write(folder: Path) -> dict[str, int]:
        (folder / "data.arrow").write_bytes(b"x" * 3000)
        return {}

    old, _ = cache.get("a" * 64, write)
    young, _ = cache.get("b" * 64, write)
    partial = cache.folder / "cccc.partial"
    partial.mkdir()
    a_while_ago = time.time() - 40 * 24 * 3600
    os.utime(old / "entry.json", (a_while_ago, a_while_ago))
    assert two_runs("runs")[1].splitlines()[-1].startswith("prepared data of all runs: 6.")
    shutil.rmtree("runs/other")
    _, out, _ = two_runs("runs", "--prune", "--yes")
    names = [re.split("  +", line)[0] for line in out.splitlines()[2:-1]]
    assert {name for name in names if "data" in name} == {
        "incomplete data",
        "data unused for 40 days",
    }
    assert sorted(path.name for path in cache.folder.iterdir()) == [".locks", young.name]
