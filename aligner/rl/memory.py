"""Forecast of the memory for weights, gradients and optimizer of an online step."""

from __future__ import annotations

from collections.abc import Mapping

from aligner.models.model_info import ModelInfo, PlannedTraining, adapter_parameters, planned_model
from aligner.models.precision import precision_of
from aligner.models.shared_reward import can_share_backbone
from aligner.rl.options import RLOptions
from aligner.stage import PlanContext
from aligner.train.reward_options import MODEL

_BYTES_TRAINED = 16
"""Weight, gradient and AdamW's two means in 32 bits."""


def memory_note(
    options: RLOptions,
    training: PlannedTraining,
    info: ModelInfo,
    context: PlanContext,
    trained: Mapping[str, int],
) -> str:
    """Return the note on memory, activations not counted.

    Args:
        options: Options of the step.
        training: What the step trains.
        info: The policy before it.
        context: Slots of the chain.
        trained: Trained parameters of further models by name.
    """
    frozen_bytes = 2 if precision_of(options.precision) == "bf16" else 4
    whole = training.adapter_plan in ("full", "merge")
    frozen = training.parameters - training.trained
    needed = {"policy": training.trained * _BYTES_TRAINED + frozen * frozen_bytes}
    if whole or "reference" in context.slots:
        exact = whole and "reference" not in context.slots
        needed["reference"] = info.parameters * (4 if exact else frozen_bytes)
    needed |= {name: number * _BYTES_TRAINED for name, number in trained.items()}
    if (separate := separate_reward(options, training, context)) is not None:
        reward = planned_model(context, "reward")
        needed["reward"] = adapter_parameters(reward) * 4
        needed["reward"] += separate * reward.parameters * frozen_bytes
    parts = ", ".join(f"{name} {_size(number)}" for name, number in needed.items())
    return f"memory: {_size(sum(needed.values()))} before activations ({parts})"


def separate_reward(
    options: RLOptions, training: PlannedTraining, context: PlanContext
) -> bool | None:
    """Return True if the reward model needs a backbone of its own; None without reward model."""
    if all(reward.name != MODEL for reward in options.rewards):
        return None
    reward = planned_model(context, "reward")
    return not can_share_backbone(training, reward, quantize=options.quantize)


def _size(number: int) -> str:
    return f"{number / 2**30:.3g} GiB" if number >= 2**30 else f"{number / 2**20:.2g} MiB"
