"""Update of the policy from one iteration's rollouts: passes of minibatches, one step each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aligner.errors import StageError
from aligner.rl.algorithm import LossBatch, StepSize, ratio_metrics
from aligner.rl.context import RLContext
from aligner.rl.experience import AdvantageTargets, Experience, Rollouts
from aligner.rl.minibatches import (
    count_micro_batches,
    derived_seed,
    flat_index,
    micro_batches,
    split_minibatches,
)
from aligner.rl.options import RLOptions


def update_from_rollouts(
    rl: RLContext,
    experience: Experience,
    targets: AdvantageTargets,
    *,
    iteration: int,
    seed: int,
) -> dict[str, float]:
    """Make all optimizer steps of an iteration; return mean metrics, the same on every process.

    Raises:
        StageError: a gradient is NaN or infinite, and the recipe does not skip such steps.
    """
    options, number = rl.options, len(experience.rollouts.responses)
    # Every process has every name, also one without responses: they are summed over processes.
    names = (*rl.algorithm.loss_metrics, "ratio", "step_kl")
    sums = dict.fromkeys((*names, *(("pretraining_loss",) if rl.mix else ())), torch.zeros(()))
    norms: list[dict[str, float]] = []
    lost = 0
    with rl.actor.checkpointing(enabled=options.activation_checkpointing):
        for epoch in range(options.passes):
            for minibatch in minibatches_of(number, options, seed, iteration, epoch):
                for name, tensor in _minibatch(rl, experience, targets, minibatch):
                    sums[name] = sums[name] + tensor.cpu()
                found = rl.optimizer.take_step()
                if all(map(math.isfinite, found.values())):
                    norms.append(found)
                else:
                    lost += 1
                    _check_gradient(options, found, rl.optimizer.step)
    totals = rl.processes.sum(torch.stack(list(sums.values()))) / options.steps_per_iteration()
    metrics: dict[str, float] = dict(zip(sums, totals.tolist(), strict=True))
    for part in ("policy",) if rl.actor.value is None else ("policy", "value"):
        metrics[f"{part}_grad_norm"] = sum(norm[part] for norm in norms) / max(len(norms), 1)
    return metrics | {"lost_steps": float(lost)}


def minibatches_of(
    number: int, options: RLOptions, seed: int, iteration: int, epoch: int
) -> list[list[int]]:
    """Return the minibatches of one pass over an iteration's responses."""
    seed = derived_seed(seed, "minibatches", iteration, epoch)
    return split_minibatches(number, options.num_mini_batches, seed=seed)


def first_pass(rl: RLContext, rollouts: Rollouts, iteration: int, seed: int) -> list[list[int]]:
    """Return this process's micro-batches of the first pass."""
    lengths, options = rollouts.lengths, rl.options
    return [
        places
        for minibatch in minibatches_of(len(lengths), options, seed, iteration, epoch=0)
        for places in micro_batches(
            minibatch, lengths, size=options.per_device_train_batch_size, processes=rl.processes
        )
    ]


def _minibatch(
    rl: RLContext,
    experience: Experience,
    targets: AdvantageTargets,
    minibatch: Sequence[int],
) -> list[tuple[str, Tensor]]:
    """Add the gradient of a minibatch; return the parts of its metrics by name."""
    lengths, size = experience.rollouts.lengths, rl.options.per_device_train_batch_size
    step = StepSize(
        completions=len(minibatch),
        tokens=sum(lengths[place] for place in minibatch),
        micro_batches=count_micro_batches(len(minibatch), size=size, processes=rl.processes),
    )
    found: list[tuple[str, Tensor]] = []
    for places in micro_batches(minibatch, lengths, size=size, processes=rl.processes):
        found += backward(rl, experience, targets, places, step=step).items()
    if rl.mix is not None:
        found.append(("pretraining_loss", rl.mix(rl.optimizer.step)))
    return found


def backward(
    rl: RLContext,
    experience: Experience,
    targets: AdvantageTargets,
    places: Sequence[int],
    *,
    step: StepSize,
) -> Mapping[str, Tensor]:
    """Add the gradient of one micro-batch; return its part of the metrics."""
    actor, rollouts, coefficient = rl.actor, experience.rollouts, rl.options.entropy_coef
    batch = actor.batch(rollouts, places)
    outputs = actor.evaluate(batch, entropy=coefficient > 0)
    values_K = outputs.values_K
    lengths = rollouts.lengths
    loss_batch = LossBatch(
        places=places,
        index=flat_index(rollouts.mask_NR, places),
        lengths=[lengths[place] for place in places],
        logps_M=outputs.logps_M,
        entropies_M=outputs.entropies_M,
        values_M=None if values_K is None else values_K[batch.sampled_K],
        experience=experience,
        targets=targets,
        step=step,
    )
    output = rl.algorithm.loss(loss_batch)
    loss = output.loss
    if outputs.entropies_M is not None:
        loss = loss - coefficient * outputs.entropies_M.sum() / step.tokens
    loss.backward()  # type: ignore[no-untyped-call]
    old_logps_M = loss_batch.tokens(experience.old.logps_NR)
    return {**output.metrics, **ratio_metrics(outputs.logps_M, old_logps_M, tokens=step.tokens)}


def _check_gradient(options: RLOptions, norms: Mapping[str, float], step: int) -> None:
    if options.guards.not_finite == "stop":
        listed = ", ".join(f"{name} {norm}" for name, norm in norms.items())
        raise StageError(
            f"guard 'not_finite' at optimizer step {step}: the gradient norm is NaN or infinite "
            f"({listed}); the result of this step is discarded",
            hint="lower learning_rate, or use precision: fp32; or set guards.not_finite",
        )
