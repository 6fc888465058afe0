"""What each process of `test_parallel` runs: `python two_processes.py FOLDER`, alone or under torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from conftest import CPU, options, run_in, whole_setting
from safetensors.torch import save_file

from aligner.run import ranks
from aligner_ppo.parallel import Together
from aligner_ppo.train import learn


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank, world = ranks.rank(), ranks.world()
    run = run_in(folder, rank=rank, world=world)
    config = options(
        iterations=3,
        minibatches=3,
        micro_batch_size=2,
        checkpoint_every=1,
        kl_target=0.5,
        reward_scale="running",
        entropy_bonus=0.01,
    )
    together = Together.of(rank=rank, world=world, device=CPU)
    setting = whole_setting(config, run, together=together)
    learn(setting, run)
    weights = {name: p.detach().clone() for name, p in setting.learner.parameters.items()}
    save_file(weights, folder / f"weights-{rank}.safetensors")
    (folder / f"figures-{rank}.json").write_text(json.dumps(run.figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
