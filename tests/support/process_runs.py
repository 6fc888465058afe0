"""Training by a script in one process and in two, and the comparison of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aligner.rl.context import RLContext
from aligner.rl.loop import train
from aligner.rl.processes import ProcessGroup
from aligner.run.processes import rank, world_size
from aligner.stage import StepContext
from aligner.testing.rl import CPU, step_context


def run_script(script: str, folder: Path, *, processes: int) -> None:
    """Run a test file as a script, under torchrun for several processes."""
    launcher = [sys.executable]
    if processes > 1:
        how = ["--standalone", "--nproc_per_node", str(processes)]
        launcher += ["-m", "torch.distributed.run", *how]
    folder.mkdir()
    path = os.pathsep.join([str(Path(script).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [*launcher, script, str(folder)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not done.returncode, done.stderr[-3000:]


def train_in(folder: Path, make: Callable[[StepContext, ProcessGroup], RLContext]) -> None:
    """Train in one of the processes that `run_script` starts, and save weights and metrics."""
    torch.set_num_threads(1)
    process, world = rank(), world_size()
    context = step_context(folder, rank=process, world_size=world)
    rl = make(context, ProcessGroup.join(rank=process, world_size=world, device=CPU))
    train(rl, context)
    weights = {name: p.detach().clone() for name, p in rl.optimizer.parameters.items()}
    save_file(weights, folder / f"weights-{process}.safetensors")
    (folder / f"metrics-{process}.json").write_text(json.dumps(context.metrics))


def assert_equal_runs(item: Path, two: Path) -> None:
    """Compare the run of one process with that of two.

    Sums of gradients are taken in another order, so the last bits may differ.
    """
    single = json.loads((item / "metrics-0.json").read_text())
    first, second = (json.loads((two / f"metrics-{n}.json").read_text()) for n in (0, 1))
    for name, number in single.items():
        if name != "tokens_per_second":
            assert first[name] == second[name], name
            assert first[name] == pytest.approx(number, rel=1e-3, abs=1e-4), name
    ranks = [load_file(two / f"weights-{n}.safetensors") for n in (0, 1)]
    for name, tensor in load_file(item / "weights-0.safetensors").items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], tensor, rtol=1e-3, atol=2e-4)
