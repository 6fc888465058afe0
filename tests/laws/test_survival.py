from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aligner.train import checkpoints

LORA = "adapter: {method: lora, r: 2, lora_alpha: 4, lora_dropout: 0.1}"


def long_step(chains: Any, *options: str) -> str:
    return chains.step("sft", "talks.jsonl", *options).replace(
        "max_steps: 3", "max_steps: 24\n    save_steps: 4"
    )


def kill_within(folder: Path, recipe: Path, runs: str) -> Path:
    """Start the run and kill it outright once two checkpoints are sealed; the step's folder."""
    command = [
        sys.executable,
        "-m",
        "aligner.cli",
        "run",
        str(recipe),
        "--runs",
        str(folder / runs),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            sealed = sorted((folder / runs / ".steps").glob("*.partial/checkpoints/*/sealed.json"))
            if len(sealed) >= 2:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return sealed[-1].parents[2]
            time.sleep(0.01)
        process.kill()
    raise AssertionError("the step ended before it could be killed")


@pytest.mark.parametrize("options", [[], [LORA]], ids=["full", "lora"])
def test_a_killed_step_goes_on_from_its_checkpoint_to_the_same_bits(
    options: list[str], chains: Any
) -> None:
    sft = long_step(chains, *options)
    whole = chains.run(sft, runs="whole")
    work = kill_within(chains.folder, chains.recipe(sft), "killed")
    assert checkpoints.newest_complete(work / "checkpoints") is not None
    again = chains.run(sft, runs="killed")
    assert again.state.policy.hash == whole.state.policy.hash
    [row] = [row for row in again.steps if row.step == "sft"]
    points = [json.loads(line) for line in (row.folder / "metrics.jsonl").read_text().splitlines()]
    assert points[-1]["done"] == 24
    assert not (row.folder / "checkpoints").exists()


def test_a_torn_checkpoint_is_passed_over_for_the_one_before_it(chains: Any) -> None:
    sft = long_step(chains)
    whole = chains.run(sft, runs="whole")
    work = kill_within(chains.folder, chains.recipe(sft), "torn")
    newest = checkpoints.newest_complete(work / "checkpoints")
    assert newest is not None
    (newest / "trainable.safetensors").write_bytes(b"torn")
    older = checkpoints.newest_complete(work / "checkpoints")
    assert older is not None
    assert checkpoints.step_number(older) < checkpoints.step_number(newest)
    assert chains.run(sft, runs="torn").state.policy.hash == whole.state.policy.hash


def test_checkpoints_are_ordered_by_step_and_not_by_time(tmp_path: Path) -> None:
    for step, age in ((9, 0), (10, 1000)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_text(str(step))
        checkpoints.mark_complete(folder)
        os.utime(folder, (time.time() - age, time.time() - age))
    newest = checkpoints.newest_complete(tmp_path)
    assert newest == tmp_path / "checkpoint-10"


def test_two_whole_checkpoints_stay_and_torn_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_text(str(step))
        if step != 4:
            checkpoints.mark_complete(folder)
    checkpoints.prune(tmp_path, keep=frozenset({tmp_path / "checkpoint-1"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-1",
        "checkpoint-2",
        "checkpoint-3",
    ]


def test_a_checkpoint_of_another_step_is_never_taken(chains: Any) -> None:
    """An unfinished step is stored under its own fingerprint, which no other step reads."""
    sft = long_step(chains)
    work = kill_within(chains.folder, chains.recipe(sft), "killed")
    other = sft.replace("learning_rate: 2e-2", "learning_rate: 1e-2")
    fresh = chains.run(other, runs="fresh")
    beside = chains.run(other, runs="killed")
    assert beside.state.policy.hash == fresh.state.policy.hash
    assert (work / "checkpoints").is_dir()


def test_a_missing_optimizer_file_makes_a_checkpoint_torn(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    for name in ("trainable.safetensors", "optimizer.pt"):
        (folder / name).write_text(name)
    checkpoints.mark_complete(folder)
    assert checkpoints.is_complete(folder)
    shutil.copytree(folder, tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / "optimizer.pt").unlink()
    assert checkpoints.newest_complete(tmp_path) == folder
