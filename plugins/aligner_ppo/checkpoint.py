"""Write down all that learning depends on, whole or not at all, and go on from it bit by bit."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from aligner.errors import StageError
from aligner.run.durable import flush_folder, write_text
from aligner.train.checkpoints import newest_whole, number, prune, seal
from aligner_ppo.advantage import RunningScale
from aligner_ppo.guards import Watched
from aligner_ppo.parallel import ProcessGroup
from aligner_ppo.update import PPOOptimizer

TENSORS, FACTS = "learner.safetensors", "progress.json"


@dataclass(frozen=True, kw_only=True)
class PPOProgress:
    """Where learning stands between two iterations, besides weights and optimizer.

    Prompts, minibatches and sampled tokens follow from the run's seed and the iteration's number, so
    these two are also the position in the prompts and the random state.
    """

    iteration: int = 0
    """Iterations done."""
    kl_coefficient: float
    scale: RunningScale = field(default_factory=RunningScale)
    watched: Watched = field(default_factory=Watched)
    first: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the first iteration, to compare the last with."""


def save(
    folder: Path, progress: PPOProgress, learner: PPOOptimizer, *, together: ProcessGroup
) -> None:
    """Write `checkpoint-<iteration>`: beside, hashed, flushed, renamed; then drop all but two."""
    if together.rank == 0:
        final = folder / f"checkpoint-{progress.iteration}"
        beside = folder / f".new-{progress.iteration}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_file(_tensors(learner), beside / TENSORS, metadata={"format": "pt"})
        facts = {
            "progress": asdict(progress),
            "step": learner.step,
            "parameters": list(learner.parameters),
            "python_random": random.getstate(),
        }
        write_text(beside / FACTS, json.dumps(facts))
        seal(beside)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(beside, final)
        flush_folder(folder)
        prune(folder)
    together.wait()


def load(folder: Path, learner: PPOOptimizer, *, where: str = "") -> PPOProgress | None:
    """Put the newest checkpoint that verifies back into `learner`; None where there is none.

    Raises:
        StageError: it is whole, and of another model.
    """
    newest = newest_whole(folder)
    if newest is None:
        return None
    tensors = load_file(newest / TENSORS)
    facts = json.loads((newest / FACTS).read_text(encoding="utf-8"))
    own = learner.parameters
    if facts["parameters"] != list(own) or any(
        tensors[f"weights/{name}"].shape != p.shape for name, p in own.items()
    ):
        raise StageError(
            f"{newest} holds other parameters than this step trains",
            where=where,
            hint="run the step afresh",
        )
    assert number(newest) == facts["progress"]["iteration"]
    _put_back(learner, tensors)
    learner.step = facts["step"]
    torch.set_rng_state(tensors["random/torch"])
    version, internal, gauss = facts["python_random"]
    random.setstate((version, tuple(internal), gauss))
    raw: dict[str, Any] = facts["progress"]
    nested = {"scale": RunningScale(**raw["scale"]), "watched": Watched(**raw["watched"])}
    return PPOProgress(**(raw | nested))


def _tensors(learner: PPOOptimizer) -> dict[str, Tensor]:
    tensors = {"random/torch": torch.get_rng_state()}
    for name, parameter in learner.parameters.items():
        tensors[f"weights/{name}"] = parameter.detach().cpu().contiguous().clone()
        for key, value in learner.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value.detach().cpu().contiguous().clone()
    return tensors


def _put_back(learner: PPOOptimizer, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            parameter.copy_(tensors[f"weights/{name}"])
            state = {
                key.split("/")[1]: tensor
                for key, tensor in tensors.items()
                if key.startswith("optimizer/") and key.split("/", 2)[2] == name
            }
            for key, tensor in state.items():
                # Adam counts its steps on the CPU, wherever the parameter is.
                there = tensor if key == "step" else tensor.to(parameter.device)
                learner.optimizer.state[parameter][key] = there
