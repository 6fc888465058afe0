"""The losses PPO minimises, over response tokens that stand in one row without any padding.

Shapes: every tensor is 1-D over the M response tokens of a micro-batch, so there is no mask to get
wrong. Each loss is a sum divided by `count`, the tokens of the whole minibatch on all processes:
the gradients of micro-batches and of processes then add up to the gradient of the minibatch's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PolicyLoss:
    """The clipped surrogate and what is watched about it, each already divided by `count`."""

    loss: Tensor
    clip_fraction: Tensor
    """Share of tokens whose gradient the clip has cut off."""
    ratio: Tensor
    """Mean of π/π_old; exactly 1 in the first minibatch of an iteration."""
    step_kl: Tensor
    """KL(π_old ‖ π) moved within this iteration, by k3 over samples of π_old."""


def policy_loss(
    logps_M: Tensor,
    old_logps_M: Tensor,
    advantages_M: Tensor,
    *,
    epsilon: float,
    epsilon_high: float,
    count: int,
) -> PolicyLoss:
    """PPO's clipped surrogate, to be minimised (Schulman 2017, eq. 7).

    −min(ρ·A, clip(ρ, 1 − epsilon, 1 + epsilon_high)·A) with ρ = exp(log π − log π_old). Unequal clips
    are those of Yu 2025 (DAPO, "clip-higher").
    """
    log_ratio_M = logps_M - old_logps_M
    ratio_M = log_ratio_M.exp()
    clipped_M = ratio_M.clamp(1.0 - epsilon, 1.0 + epsilon_high)
    free_M, held_M = ratio_M * advantages_M, clipped_M * advantages_M
    with torch.no_grad():
        cut_M = (held_M < free_M).float()
        step_kl_M = ratio_M - 1.0 - log_ratio_M
    return PolicyLoss(
        loss=-torch.minimum(free_M, held_M).sum() / count,
        clip_fraction=cut_M.sum() / count,
        ratio=ratio_M.detach().sum() / count,
        step_kl=step_kl_M.sum() / count,
    )


@dataclass(frozen=True, kw_only=True)
class ValueLoss:
    """The value function's error and how much of it is clipped, already divided by `count`."""

    loss: Tensor
    clip_fraction: Tensor


def value_loss(
    values_M: Tensor, old_values_M: Tensor, returns_M: Tensor, *, clip: float | None, count: int
) -> ValueLoss:
    """Half the squared error to the returns, the value's move clipped (Schulman 2017's code).

    ½·max((V − R)², (clip(V, V_old − c, V_old + c) − R)²); without a clip, ½·(V − R)². The clip is
    in units of the value, that is of the reward, so it must grow with the reward's scale.
    """
    errors_M = (values_M - returns_M).square()
    if clip is None:
        return ValueLoss(loss=0.5 * errors_M.sum() / count, clip_fraction=errors_M.new_zeros(()))
    held_M = torch.maximum(torch.minimum(values_M, old_values_M + clip), old_values_M - clip)
    held_errors_M = (held_M - returns_M).square()
    return ValueLoss(
        loss=0.5 * torch.maximum(errors_M, held_errors_M).sum() / count,
        clip_fraction=(held_errors_M > errors_M).float().sum() / count,
    )


def explained_variance(values_M: Tensor, returns_M: Tensor) -> float:
    """1 − Var(R − V)/Var(R): 1 is a perfect value function, 0 one no better than a constant.

    0 when the returns do not vary, where the ratio says nothing.
    """
    spread = float(returns_M.double().var(correction=0))
    if spread <= 0.0:
        return 0.0
    return 1.0 - float((returns_M.double() - values_M.double()).var(correction=0)) / spread
