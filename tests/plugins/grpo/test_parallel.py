"""Two processes compute the same as one process with the whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aligner.rl.processes import ProcessGroup

HERE = Path(__file__).parent
CPU = torch.device("cpu")


def run_script(folder: Path, *, processes: int) -> None:
    launcher = [sys.executable]
    if processes > 1:
        how = ["--standalone", "--nproc_per_node", str(processes)]
        launcher += ["-m", "torch.distributed.run", *how]
    folder.mkdir()
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    done = subprocess.run(
        [*launcher, __file__, str(folder)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not done.returncode, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path) -> None:
    """Groups, advantages, all losses' divisors, gradients, KL coefficient and checkpoints, for 3
    iterations of 16 responses. Sums of gradients are taken in another order, so the last bits differ.
    """
    run_script(tmp_path / "one", processes=1)
    run_script(tmp_path / "two", processes=2)
    single = json.loads((tmp_path / "one" / "metrics-0.json").read_text())
    first, second = (
        json.loads((tmp_path / "two" / f"metrics-{rank}.json").read_text()) for rank in (0, 1)
    )
    for name, number in single.items():
        if name != "tokens_per_second":
            assert first[name] == second[name], name
            assert first[name] == pytest.approx(number, rel=1e-3, abs=1e-4), name
    alone = load_file(tmp_path / "one" / "weights-0.safetensors")
    ranks = [load_file(tmp_path / "two" / f"weights-{rank}.safetensors") for rank in (0, 1)]
    for name, tensor in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], tensor, rtol=1e-3, atol=2e-4)


def train_in(folder: Path) -> None:
    """Train in each process of the test, alone or under torchrun."""
    from aligner.rl.loop import train
    from aligner.run.processes import rank, world_size
    from aligner.testing.rl import step_context
    from conftest import options, tiny_grpo

    torch.set_num_threads(1)
    process, world = rank(), world_size()
    context = step_context(folder, rank=process, world_size=world)
    processes = ProcessGroup.join(rank=process, world_size=world, device=CPU)
    rl = tiny_grpo(
        options(num_mini_batches=3, per_device_train_batch_size=2, save_steps=1, kl_target=0.5),
        context,
        processes=processes,
    )
    train(rl, context)
    weights = {name: p.detach().clone() for name, p in rl.optimizer.parameters.items()}
    save_file(weights, folder / f"weights-{process}.safetensors")
    (folder / f"metrics-{process}.json").write_text(json.dumps(context.metrics))


if __name__ == "__main__":
    train_in(Path(sys.argv[1]))
