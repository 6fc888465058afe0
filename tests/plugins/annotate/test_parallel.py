"""Two processes share the prompts and make the rows that one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aligner.testing import prompts, write_files, write_tiny

RECIPE = """\
model: tiny
steps:
  - stage: annotate
    prompts: prompts.jsonl
    score: {name: length, options: {maximum: 3, margin: 8}}
    ended_only: false
    temperature: 1.5
    max_new_tokens: 8
    batch_size: 8
  - stage: sft
    data: {step: annotate}
    max_steps: 1
    per_device_train_batch_size: 2
"""


def run(folder: Path, runs: str, *, processes: int) -> dict[str, bytes]:
    how = ["--standalone", "--nproc_per_node", str(processes)]
    launcher = ["-m", "torch.distributed.run", *how] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "aligner.cli", "run", "recipe.yaml", "--runs", runs],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not done.returncode, done.stdout[-2000:] + done.stderr[-3000:]
    step = folder / runs / "recipe" / "steps" / "1-annotate"
    names = ("answers.jsonl", "samples.jsonl", "data/rows.jsonl")
    assert not list(step.glob(".process-*"))
    return {name: (step / name).read_bytes() for name in names}


@pytest.mark.slow
def test_two_processes_make_the_rows_of_one(tmp_path: Path) -> None:
    """To the byte: what is written together is the same, whoever writes it."""
    write_tiny(tmp_path / "tiny")
    write_files(tmp_path, {"prompts.jsonl": prompts(9), "recipe.yaml": RECIPE})
    assert run(tmp_path, "one", processes=1) == run(tmp_path, "two", processes=2)
