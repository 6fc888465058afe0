from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LORA = "adapter: {method: lora, r: 2, lora_alpha: 4}"


def on_two(recipe: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    return subprocess.run(
        [*launch, "-m", "aligner.cli", "run", str(recipe), "--runs", str(runs)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


@pytest.mark.slow
def test_a_chain_on_two_processes_equals_one_with_twice_the_batch(chains: Any, losses: Any) -> None:
    """Steps are committed once, and the losses are those of the same rows in one process.

    A batch of 4 on each of two processes is a batch of 8 on one; rows are taken in order, so that
    both see the same ones. The first loss is on equal weights; later ones differ by rounding only.
    """
    options = ("train_sampling_strategy: random", "num_train_epochs: 1")
    sft = chains.step("sft", "talks.jsonl", *options)
    dpo = chains.step("dpo", "pairs.jsonl", *options, LORA)
    done = on_two(chains.recipe(sft, dpo), chains.folder / "two")
    assert done.returncode == 0, done.stdout + done.stderr
    wide = [
        step.replace("per_device_train_batch_size: 4", "per_device_train_batch_size: 8")
        for step in (sft, dpo)
    ]
    single = chains.run(*wide, runs="one")
    two = chains.run(sft, dpo, runs="two")
    assert all(row.reused for row in two.steps)
    assert losses(two, "dpo")[0] == pytest.approx(losses(single, "dpo")[0], abs=1e-5)
    assert not list((chains.folder / "two" / ".steps").glob("*/.process-*"))
