"""Learn from one iteration: epochs of minibatches, one optimizer step each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from aligner.errors import StageError
from aligner_ppo.actor import Actor
from aligner_ppo.experience import (
    AdvantageTargets,
    OldLogprobs,
    Rollouts,
    cells,
    deal,
    derived_seed,
    micro_batches,
)
from aligner_ppo.loss import policy_loss, value_loss
from aligner_ppo.options import PPOOptions
from aligner_ppo.parallel import ProcessGroup

_WATCHED = (
    "policy_loss",
    "value_loss",
    "clip_fraction",
    "value_clip_fraction",
    "ratio",
    "step_kl",
)
Mix = Callable[[int], Tensor]
"""Runs backward on the pretraining rows of an optimizer step; returns this process's loss."""


@dataclass(kw_only=True)
class PPOOptimizer:
    """What is trained, by which optimizer, and how many steps it has made."""

    actor: Actor
    options: PPOOptions
    together: ProcessGroup
    total_steps: int
    value_learning_rate: float
    step: int = 0
    policy: dict[str, nn.Parameter] = field(init=False)
    value: dict[str, nn.Parameter] = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.policy, self.value = self.actor.policy_parameters(), self.actor.value.trained()
        groups = [
            {"params": part, "lr": rate, "rate": rate, "weight_decay": decay}
            for parameters, rate in (
                (self.policy, self.options.learning_rate),
                (self.value, self.value_learning_rate),
            )
            for part, decay in _by_decay(parameters.values(), self.options.weight_decay)
            if part
        ]
        betas = (self.options.adam_beta1, self.options.adam_beta2)
        self.optimizer = torch.optim.AdamW(groups, betas=betas, eps=self.options.adam_epsilon)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name, in one order for ever."""
        named = {f"policy/{name}": p for name, p in self.policy.items()}
        return named | {f"value/{name}": p for name, p in self.value.items()}

    def pass_over(self) -> None:
        """Let an iteration's optimizer steps go by without taking them; the schedule goes on."""
        self.step += self.options.num_ppo_epochs * self.options.num_mini_batches

    def take_step(self) -> tuple[float, float]:
        """Sum gradients over processes, clip, step. Returns the norms of policy and value.

        A gradient that is no number makes no step; the caller sees it in the norms.
        """
        self.together.sum_gradients(self.parameters.values())
        limit = self.options.max_grad_norm
        if self.actor.value.needs_trunk:
            norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), limit)
            norms = float(norm), float(norm)
        else:
            norms = (
                float(nn.utils.clip_grad_norm_(list(self.policy.values()), limit)),
                float(nn.utils.clip_grad_norm_(list(self.value.values()), limit)),
            )
        if all(map(math.isfinite, norms)):
            factor = rate_factor(self.step, self.total_steps, self.options)
            for group in self.optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return norms


def update(
    learner: PPOOptimizer,
    rollouts: Rollouts,
    measured: OldLogprobs,
    targets: AdvantageTargets,
    *,
    iteration: int,
    seed: int,
    mix: Mix | None = None,
    where: str = "",
) -> dict[str, float]:
    """All optimizer steps of an iteration; returns their mean metrics, the same on every process.

    Raises:
        StageError: a gradient is no number, and the recipe does not say to skip such steps.
    """
    config, together = learner.options, learner.together
    lengths, mask_NR = rollouts.lengths, rollouts.mask_NR
    # Every process has every name, also one that got no rows: they are summed over all.
    sums = dict.fromkeys((*_WATCHED, *(("pretraining_loss",) if mix else ())), torch.zeros(()))
    norms, lost = [], 0
    with learner.actor.learning(recompute=config.activation_checkpointing):
        for epoch in range(config.num_ppo_epochs):
            for minibatch in passes(
                len(lengths), config, seed=seed, iteration=iteration, epoch=epoch
            ):
                count = sum(lengths[place] for place in minibatch)
                for places in micro_batches(
                    minibatch, lengths, size=config.per_device_train_batch_size, together=together
                ):
                    found = _backward(
                        learner, rollouts, measured, targets, mask_NR, places, count=count
                    )
                    for name, tensor in found.items():
                        sums[name] = sums[name] + tensor.cpu()
                if mix is not None:
                    sums["pretraining_loss"] = sums["pretraining_loss"] + mix(learner.step).cpu()
                norms.append(learner.take_step())
                if not all(map(math.isfinite, norms[-1])):
                    lost += 1
                    _refuse(config, norms.pop(), learner.step, where)
    steps = config.num_ppo_epochs * config.num_mini_batches
    totals = together.sum(torch.stack(list(sums.values()))) / steps
    metrics = dict(zip(sums, totals.tolist(), strict=True))
    metrics["policy_grad_norm"] = sum(p for p, _ in norms) / max(len(norms), 1)
    metrics["value_grad_norm"] = sum(v for _, v in norms) / max(len(norms), 1)
    metrics["lost_steps"] = float(lost)
    return metrics


def passes(
    number: int, options: PPOOptions, *, seed: int, iteration: int, epoch: int
) -> list[list[int]]:
    """The minibatches of one pass over an iteration's responses."""
    return deal(
        number, options.num_mini_batches, seed=derived_seed(seed, "minibatches", iteration, epoch)
    )


def _backward(
    learner: PPOOptimizer,
    rollouts: Rollouts,
    measured: OldLogprobs,
    targets: AdvantageTargets,
    mask_NR: Tensor,
    places: Sequence[int],
    *,
    count: int,
) -> Mapping[str, Tensor]:
    """Add one micro-batch's gradient; returns its share of the minibatch's metrics."""
    actor, config = learner.actor, learner.options
    here = cells(mask_NR, places)
    rows = actor.rows(rollouts, places)
    logps_M, entropies_M, values_K = actor.evaluate(rows, entropy=config.entropy_coef > 0)
    policy = policy_loss(
        logps_M,
        measured.logps_NR[here].to(actor.device),
        targets.advantages_NR[here].to(actor.device),
        epsilon=config.epsilon,
        epsilon_high=config.epsilon_high,
        count=count,
    )
    value = value_loss(
        values_K[rows.chosen_K],
        measured.values_NR[here].to(actor.device),
        targets.returns_NR[here].to(actor.device),
        clip=config.cliprange_value,
        count=count,
    )
    loss = policy.loss + config.vf_coef * value.loss
    if entropies_M is not None:
        loss = loss - config.entropy_coef * entropies_M.sum() / count
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        "policy_loss": policy.loss.detach(),
        "value_loss": value.loss.detach(),
        "clip_fraction": policy.clip_fraction,
        "value_clip_fraction": value.clip_fraction.detach(),
        "ratio": policy.ratio,
        "step_kl": policy.step_kl,
    }


def rate_factor(step: int, total: int, options: PPOOptions) -> float:
    """What learning rates are multiplied by at optimizer step 0, 1, …"""
    warmup = options.warmup_steps * total if options.warmup_steps < 1 else options.warmup_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    share = (step - warmup) / max(total - warmup, 1)
    if options.lr_scheduler_type == "linear":
        return 1.0 - share
    return 0.5 * (1.0 + math.cos(math.pi * share)) if options.lr_scheduler_type == "cosine" else 1.0


def _by_decay(
    parameters: Iterable[nn.Parameter], decay: float
) -> list[tuple[list[nn.Parameter], float]]:
    every = list(parameters)
    matrices = [p for p in every if p.dim() > 1]
    return [(matrices, decay), ([p for p in every if p.dim() <= 1], 0.0)]


def _refuse(options: PPOOptions, norms: tuple[float, float], step: int, where: str) -> None:
    if options.guards.not_finite == "stop":
        raise StageError(
            f"guard 'not_finite' at optimizer step {step}: the gradient is no number "
            f"(policy {norms[0]}, value {norms[1]}); nothing of this step is kept",
            where=where,
            hint="lower learning_rate, or use precision: fp32; or set guards.not_finite",
        )
