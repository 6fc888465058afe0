"""AdamW over policy and value function, its learning-rate schedule, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from aligner.rl.actor import Actor
from aligner.rl.options import OptimizerOptions
from aligner.rl.processes import ProcessGroup


@dataclass(kw_only=True)
class RLOptimizer:
    """Trained parameters with their optimizer, and the number of steps it has made."""

    actor: Actor
    options: OptimizerOptions
    processes: ProcessGroup
    total_steps: int
    step: int = 0
    policy: dict[str, nn.Parameter] = field(init=False)
    value: dict[str, nn.Parameter] = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        value = self.actor.value
        self.policy = self.actor.policy_parameters()
        self.value = {} if value is None else value.trained()
        rates = [(self.policy, self.options.learning_rate)]
        if value is not None:
            rates.append((self.value, value.learning_rate))
        groups = [
            {"params": part, "lr": rate, "rate": rate, "weight_decay": decay}
            for parameters, rate in rates
            for part, decay in _split_by_decay(parameters.values(), self.options.weight_decay)
            if part
        ]
        betas = (self.options.adam_beta1, self.options.adam_beta2)
        self.optimizer = torch.optim.AdamW(groups, betas=betas, eps=self.options.adam_epsilon)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All trained parameters by name, always in the same order."""
        named = {f"policy/{name}": p for name, p in self.policy.items()}
        return named | {f"value/{name}": p for name, p in self.value.items()}

    def skip_steps(self, number: int) -> None:
        """Count optimizer steps that are not made, so that the schedule continues."""
        self.step += number

    def take_step(self) -> dict[str, float]:
        """Sum gradients over processes, clip, and update. Return the gradient norms by name.

        With a norm that is NaN or infinite no parameter changes; the caller sees it in the norms.
        """
        self.processes.sum_gradients(self.parameters.values())
        norms = self._clip_gradients()
        if all(map(math.isfinite, norms.values())):
            factor = learning_rate_factor(self.step, self.total_steps, self.options)
            for group in self.optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return norms

    def _clip_gradients(self) -> dict[str, float]:
        limit = self.options.max_grad_norm
        if self.actor.value is None:
            return {"policy": _clip(self.policy, limit)}
        if self.actor.value.shares_trunk:
            norm = _clip(self.parameters, limit)
            return {"policy": norm, "value": norm}
        return {"policy": _clip(self.policy, limit), "value": _clip(self.value, limit)}


def learning_rate_factor(step: int, total: int, options: OptimizerOptions) -> float:
    """Return the factor for learning rates at optimizer step 0, 1, …"""
    warmup = options.warmup_steps * total if options.warmup_steps < 1 else options.warmup_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    share = (step - warmup) / max(total - warmup, 1)
    if options.lr_scheduler_type == "linear":
        return 1.0 - share
    if options.lr_scheduler_type == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * share))
    return 1.0


def _clip(parameters: dict[str, nn.Parameter], limit: float) -> float:
    return float(nn.utils.clip_grad_norm_(list(parameters.values()), limit))


def _split_by_decay(
    parameters: Iterable[nn.Parameter], decay: float
) -> list[tuple[list[nn.Parameter], float]]:
    every = list(parameters)
    matrices = [p for p in every if p.dim() > 1]
    return [(matrices, decay), ([p for p in every if p.dim() <= 1], 0.0)]
