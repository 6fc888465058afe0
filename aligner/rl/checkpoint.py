"""Checkpoints from which training continues bit for bit, written completely or not at all."""

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
from aligner.rl.guards import GuardState
from aligner.rl.normalization import RunningScale
from aligner.rl.optimizer import RLOptimizer
from aligner.rl.processes import ProcessGroup
from aligner.run.durable import flush_folder, write_text
from aligner.train.checkpoints import mark_complete, newest_complete, prune, step_number

TENSORS, STATE = "trainer.safetensors", "progress.json"


@dataclass(frozen=True, kw_only=True)
class RLProgress:
    """State of training between two iterations, besides weights and optimizer.

    Prompts, minibatches and sampled tokens are derived from the run's seed and the iteration's
    number, so these two are also the position in the prompts and the random state.
    """

    iteration: int = 0
    """Iterations done."""
    kl_coefficient: float
    scale: RunningScale = field(default_factory=RunningScale)
    guards: GuardState = field(default_factory=GuardState)
    first: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the first iteration, for comparison with the last."""


def save(
    folder: Path, progress: RLProgress, optimizer: RLOptimizer, *, processes: ProcessGroup
) -> None:
    """Write `checkpoint-<iteration>`, hashed and flushed before it gets its name; keep two."""
    if processes.rank == 0:
        final = folder / f"checkpoint-{progress.iteration}"
        temporary = folder / f".new-{progress.iteration}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(trained_tensors(optimizer), temporary / TENSORS, metadata={"format": "pt"})
        state = {
            "progress": asdict(progress),
            "step": optimizer.step,
            "parameters": list(optimizer.parameters),
            "python_random": random.getstate(),
        }
        write_text(temporary / STATE, json.dumps(state))
        mark_complete(temporary)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        flush_folder(folder)
        prune(folder)
    processes.barrier()


def load(folder: Path, optimizer: RLOptimizer) -> RLProgress | None:
    """Restore the newest checkpoint that verifies into `optimizer`; None where there is none.

    Raises:
        StageError: the checkpoint contains other parameters.
    """
    newest = newest_complete(folder)
    if newest is None:
        return None
    tensors = load_file(newest / TENSORS)
    state = json.loads((newest / STATE).read_text(encoding="utf-8"))
    parameters = optimizer.parameters
    if state["parameters"] != list(parameters) or any(
        tensors[f"weights/{name}"].shape != p.shape for name, p in parameters.items()
    ):
        raise StageError(
            f"{newest} contains other parameters than this step trains",
            hint="run the step from its start",
        )
    assert step_number(newest) == state["progress"]["iteration"]
    _restore(optimizer, tensors)
    optimizer.step = state["step"]
    torch.set_rng_state(tensors["random/torch"])
    version, internal, gauss = state["python_random"]
    random.setstate((version, tuple(internal), gauss))
    raw: dict[str, Any] = state["progress"]
    nested = {"scale": RunningScale(**raw["scale"]), "guards": GuardState(**raw["guards"])}
    return RLProgress(**(raw | nested))


def trained_tensors(optimizer: RLOptimizer) -> dict[str, Tensor]:
    """Copy all trained weights, the optimizer's state and torch's random state, by name."""
    tensors = {"random/torch": torch.get_rng_state()}
    for name, parameter in optimizer.parameters.items():
        tensors[f"weights/{name}"] = parameter.detach().cpu().contiguous().clone()
        for key, value in optimizer.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value.detach().cpu().contiguous().clone()
    return tensors


def _restore(optimizer: RLOptimizer, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in optimizer.parameters.items():
            parameter.copy_(tensors[f"weights/{name}"])
            state = {
                key.split("/")[1]: tensor
                for key, tensor in tensors.items()
                if key.startswith("optimizer/") and key.split("/", 2)[2] == name
            }
            for key, tensor in state.items():
                # AdamW counts its steps on the CPU, whatever the device of the parameter.
                moved = tensor if key == "step" else tensor.to(parameter.device)
                optimizer.optimizer.state[parameter][key] = moved
