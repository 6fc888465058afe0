"""Two processes compute what one does with all of the batch."""

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
    """Sampling, rewards, whitening, losses, gradients, KL coefficient and checkpoints, for 3 iterations
    of 16 responses. Sums of gradients are taken in another order, so the last bits may differ.
    """
    run_script(tmp_path / "one", processes=1)
    run_script(tmp_path / "two", processes=2)
    one = json.loads((tmp_path / "one" / "metrics-0.json").read_text())
    first, second = (
        json.loads((tmp_path / "two" / f"metrics-{rank}.json").read_text()) for rank in (0, 1)
    )
    for name, number in one.items():
        if name != "tokens_per_second":
            assert first[name] == second[name], name
            assert first[name] == pytest.approx(number, rel=1e-3, abs=1e-4), name
    alone = load_file(tmp_path / "one" / "weights-0.safetensors")
    ranks = [load_file(tmp_path / "two" / f"weights-{rank}.safetensors") for rank in (0, 1)]
    for name, tensor in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], tensor, rtol=1e-3, atol=2e-4)
    assert sorted(p.name for p in (tmp_path / "two" / "checkpoints").iterdir()) == [
        "checkpoint-1",
        "checkpoint-2",
    ]
    curve = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["done"] for line in curve] == [1, 2, 3]


def learn_in(folder: Path) -> None:
    """What each process of the first test runs, alone or under torchrun."""
    from aligner.rl.loop import train
    from aligner.run import processes
    from aligner.testing.rl import step_context
    from conftest import options, tiny_ppo

    torch.set_num_threads(1)
    rank, world = processes.rank(), processes.world_size()
    run = step_context(folder, rank=rank, world=world)
    config = options(
        iterations=3,
        num_mini_batches=3,
        per_device_train_batch_size=2,
        save_steps=1,
        kl_target=0.5,
        reward_scale="running",
        entropy_coef=0.01,
    )
    processes = ProcessGroup.join(rank=rank, world_size=world, device=CPU)
    rl = tiny_ppo(config, run, processes=processes)
    train(rl, run)
    weights = {name: p.detach().clone() for name, p in rl.optimizer.parameters.items()}
    save_file(weights, folder / f"weights-{rank}.safetensors")
    (folder / f"metrics-{rank}.json").write_text(json.dumps(run.metrics))


if __name__ == "__main__":
    learn_in(Path(sys.argv[1]))
