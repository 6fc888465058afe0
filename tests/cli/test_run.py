"""`aligner run`: its plain lines, its files, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Aligner = Callable[..., tuple[int, str, str]]


def timeless(text: str) -> str:
    """Replace every duration in `text` by `T` of the same width."""
    return re.sub(r"\d+\.\d s", "TTT s", text)


def apart(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "aligner.cli", *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


FIRST_RUN = """\
[1/4] make: a new model, 8 wide
[1/4] make: done in TTT s
[2/4] tune: 4 steps at rate 0.1
[2/4] tune: done in TTT s · loss 0.7143 · accuracy 0.75
[3/4] again: 4 steps at rate 0.5
[3/4] again: done in TTT s · loss 0.3333 · accuracy 0.75
[4/4] measure: 3 prompts
[4/4] measure: done in TTT s · score 0.5

    step       time   metrics
─────────────────────────────────────────────────
1   make      TTT s
2   tune      TTT s   loss 0.7143 · accuracy 0.75
3   again     TTT s   loss 0.3333 · accuracy 0.75
4   measure   TTT s   score 0.5

run       runs/small
policy    runs/small/steps/3-again/policy
tokenizer runs/small/steps/1-make/tokenizer
time      TTT s
"""

SECOND_RUN = """\
[1/4] make: reused
[2/4] tune: reused · loss 0.7143 · accuracy 0.75
[3/4] again: 4 steps at rate 0.9
[3/4] again: done in TTT s · loss 0.2174 · accuracy 0.75
[4/4] measure: 3 prompts
[4/4] measure: done in TTT s · score 0.5

    step        time   metrics
──────────────────────────────────────────────────
1   make      reused
2   tune      reused   loss 0.7143 · accuracy 0.75
3   again      TTT s   loss 0.2174 · accuracy 0.75
4   measure    TTT s   score 0.5

run       runs/other
policy    runs/other/steps/3-again/policy
tokenizer runs/other/steps/1-make/tokenizer
time      TTT s
"""


def test_a_run_prints_each_step_and_ends_with_metrics_and_paths(aligner: Aligner) -> None:
    code, out, err = aligner("run", "small.yaml")
    assert (code, timeless(out), err) == (0, FIRST_RUN, "")
    assert Path("runs/small/steps/3-again/policy/weights.txt").is_file()


def test_a_run_with_one_changed_option_reuses_earlier_steps(aligner: Aligner) -> None:
    aligner("run", "small.yaml")
    code, out, err = aligner("run", "small.yaml", "--set", "again.rate=0.9", "--name", "other")
    assert (code, timeless(out), err) == (0, SECOND_RUN, "")


def test_until_from_and_fresh_select_the_steps_to_run(aligner: Aligner) -> None:
    _, out, _ = aligner("run", "small.yaml", "--until", "tune")
    assert [line.split(":")[0] for line in out.splitlines()[:4]] == ["[1/2] make"] * 2 + [
        "[2/2] tune"
    ] * 2
    _, out, _ = aligner("run", "small.yaml", "--until", "tune", "--from", "tune")
    assert out.splitlines()[:2] == ["[1/2] make: reused", "[2/2] tune: 4 steps at rate 0.1"]
    _, out, _ = aligner("run", "small.yaml", "--until", "tune", "--fresh")
    assert out.splitlines()[0] == "[1/2] make: a new model, 8 wide"


def test_from_is_refused_if_an_earlier_step_has_not_finished(aligner: Aligner) -> None:
    assert aligner("run", "small.yaml", "--from", "again") == (
        2,
        "",
        "small.yaml:4: step 'make' has not finished with these options\n"
        "  hint: run without --from: finished steps are reused anyway\n",
    )


def test_quiet_prints_nothing(aligner: Aligner) -> None:
    assert aligner("run", "small.yaml", "--quiet") == (0, "", "")


def test_all_errors_of_a_recipe_are_reported_at_once_and_nothing_is_written(
    aligner: Aligner, desk: Path
) -> None:
    Path("bad.yaml").write_text(
        "steps:\n  - stage: tune\n    raet: 1\n  - stage: measure\n    as: tune\n"
    )
    code, out, err = aligner("run", "bad.yaml")
    assert (code, out) == (2, "")
    assert "bad.yaml:4: two steps are called 'tune'" in err
    assert not Path("runs").exists()


def test_a_library_error_is_printed_in_brief_and_written_in_full(aligner: Aligner) -> None:
    code, out, err = aligner("run", "small.yaml", "--set", "again.error=library")
    assert code == 1
    assert timeless(out).splitlines()[-1] == "[3/4] again: failed after TTT s"
    assert err == (
        "RuntimeError: the matrix is singular\\x1b[31m\n"
        "  while running step 'again' (small.yaml:6)\n"
        "  full traceback: runs/small/steps/3-again/error.txt\n"
        "  finished steps are kept: the same command resumes the run\n"
    )
    kept = Path("runs/small/steps/3-again/error.txt").read_text()
    assert kept.startswith("Traceback (most recent call last):\n")
    assert kept.endswith(
        "RuntimeError: the matrix is singular\\x1b[31m\nwhile running step 'again' (small.yaml:6)\n"
    )


def test_verbose_shows_the_traceback_of_a_library_error(aligner: Aligner) -> None:
    _, _, err = aligner("run", "small.yaml", "--set", "again.error=library", "--verbose")
    assert err.startswith("Traceback (most recent call last):\n")
    assert "full traceback: runs/small/steps/3-again/error.txt\n" in err


def test_a_step_that_succeeds_removes_the_error_of_an_earlier_attempt(
    aligner: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAULT", "library")
    assert aligner("run", "small.yaml")[0] == 1
    assert Path("runs/small/steps/2-tune/error.txt").is_file()
    monkeypatch.delenv("TOY_FAULT")
    assert aligner("run", "small.yaml")[0] == 0
    assert not Path("runs/small/steps/2-tune/error.txt").exists()


def test_a_failed_gate_ends_with_1_and_names_the_folder_of_the_result(
    aligner: Aligner,
) -> None:
    code, out, err = aligner("run", "small.yaml", "--set", "again.gate.accuracy=0.9 .. 1")
    assert code == 1
    assert out.splitlines()[-1].startswith("[3/4] again: done in")
    assert err.split(": ", 1)[1] == (
        "step 'again' does not pass its gate: "
        "accuracy is 0.75, not 0.9 .. 1.0\n"
        f"  hint: its result is kept in {Path.cwd()}/runs/small/steps/3-again; "
        "change the gate or an earlier step, and run again\n"
    )


def test_ctrl_c_in_a_step_ends_with_75_and_a_hint_to_resume(aligner: Aligner) -> None:
    code, out, err = aligner("run", "small.yaml", "--set", "again.error=stop")
    assert timeless(out).splitlines()[-1] == "[3/4] again: stopped after TTT s"
    assert (code, err) == (
        75,
        "small.yaml:6: interrupted in step 'again'; the steps before it are kept\n"
        "  hint: run the same command again to resume\n",
    )
    assert not Path("runs/small/steps/3-again/error.txt").exists()


def test_sigterm_ends_a_run_as_ctrl_c_does(desk: Path) -> None:
    words = ["run", "small.yaml", "--set", "again.pause=5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aligner.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("[3/4] again:"):
        pass
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75
    assert err.startswith("small.yaml:6: interrupted in step 'again'; the steps before it are kept")


def test_output_of_libraries_goes_to_the_log_of_the_run_and_not_to_the_screen(desk: Path) -> None:
    words = ("--set", r'tune.says="10%\r20%\rhello \e[2J"', "--until", "tune")
    done = apart("run", "small.yaml", *words)
    assert done.returncode == 0
    assert "hello" not in done.stdout
    assert done.stdout.splitlines()[-2] == "log       runs/small/log.txt"
    assert done.stderr == ""
    log = Path("runs/small/log.txt").read_text()
    assert log.splitlines()[:3] == ["hello \\x1b[2J", "hello \\x1b[2J", "written past Python"]
    assert "FutureWarning: a library warns" in log


def test_a_failed_run_names_the_log_of_the_libraries(desk: Path) -> None:
    words = ("--set", "tune.says=hello", "--set", "tune.error=library")
    done = apart("run", "small.yaml", *words)
    assert done.returncode == 1
    assert "  output of the libraries: runs/small/log.txt\n" in done.stderr


def test_a_secret_reaches_neither_screen_nor_log_nor_error_file(desk: Path) -> None:
    words = ("--set", "tune.says=my s3cr3t-value", "--set", "tune.error=secret")
    done = apart("run", "small.yaml", *words, HUB_TOKEN="s3cr3t-value", SHORT_KEY="1")
    assert done.returncode == 1
    assert "RuntimeError: refused: [HUB_TOKEN hidden]\n" in done.stderr
    folders = (Path("runs/small"), Path("runs/small/steps/2-tune"))
    written = {p.name: p.read_bytes() for f in folders for p in f.iterdir() if p.is_file()}
    assert b"my [HUB_TOKEN hidden]" in written["log.txt"]
    assert b"refused: [HUB_TOKEN hidden]" in written["error.txt"]
    assert b"s3cr3t" not in written["log.txt"] + written["error.txt"] + written["journal.jsonl"]


def test_a_closed_pipe_does_not_stop_the_training(desk: Path) -> None:
    run = f"{sys.executable} -m aligner.cli run small.yaml --set tune.pause=0.2"
    done = subprocess.run(
        ["bash", "-c", f"{run} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[1/4] make: a new model, 8 wide\n141\n", "")
    last = json.loads(Path("runs/small/journal.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "run finished"


def test_telemetry_is_off_before_a_stage_runs(desk: Path) -> None:
    done = apart("run", "small.yaml", "--set", "tune.says=$HF_HUB_DISABLE_TELEMETRY")
    assert done.returncode == 0
    assert Path("runs/small/log.txt").read_text().startswith("1\n")


def test_a_plugin_whose_observer_fails_is_named_on_the_screen(desk: Path) -> None:
    site = desk.parent / "site"
    (site / "nosy.py").write_text(
        "import aligner\n@aligner.hookimpl\n"
        "def aligner_step_started(context, state):\n    raise OSError('no tracker')\n"
    )
    (site / "toy_stages-1.2.dist-info" / "entry_points.txt").write_text(
        "[aligner]\ntoy = toy\nnosy = nosy\n"
    )
    done = apart("run", "small.yaml", "--until", "make", ALIGNER_ONLY_PLUGINS="toy,nosy")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] == (
        "warning: plugin 'nosy' (toy-stages 1.2) failed in aligner_step_started: "
        "OSError('no tracker')"
    )


def test_only_the_first_of_several_processes_shows_the_run(desk: Path) -> None:
    assert apart("run", "small.yaml").returncode == 0
    second = apart("run", "small.yaml", RANK="1", WORLD_SIZE="2")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


def test_a_later_process_prints_its_rank_with_its_error(desk: Path) -> None:
    second = apart("run", "small.yaml", "--until", "nothing", RANK="1", WORLD_SIZE="2")
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.startswith("process 1: small.yaml: --until: there is no step 'nothing'\n")


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_one_runs(desk: Path) -> None:
    words = ["run", "small.yaml", "--set", "tune.pause=5"]
    first = subprocess.Popen(
        [sys.executable, "-m", "aligner.cli", *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None
        while not first.stdout.readline().startswith("[2/4] tune:"):
            pass
        second = apart("run", "small.yaml")
        assert second.returncode == 2
        assert f"another process ({first.pid}) is running in this folder" in second.stderr
        listed = json.loads(apart("runs", "--json").stdout)
        assert [run["status"] for run in listed] == ["running"]
        refused = apart("runs", "--prune", "--yes")
        assert (refused.returncode, refused.stderr) == (
            2,
            "runs: run 'small' is running and may use steps that look unused\n"
            "  hint: prune when it has ended\n",
        )
    finally:
        first.kill()
        first.communicate()
