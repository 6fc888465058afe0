"""The losses of PPO, over response tokens in one row without padding.

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
    """Clipped policy loss, and the share of tokens that the clip affects."""

    loss: Tensor
    clip_fraction: Tensor
    """Share of tokens whose gradient is clipped to 0."""


def policy_loss(
    logps_M: Tensor,
    old_logps_M: Tensor,
    advantages_M: Tensor,
    *,
    epsilon: float,
    epsilon_high: float,
    count: int,
) -> PolicyLoss:
    """Compute PPO's clipped policy loss (Schulman 2017, eq. 7).

    −min(ρ·A, clip(ρ, 1 − epsilon, 1 + epsilon_high)·A) with ρ = exp(log π − log π_old). Unequal
    limits are those of Yu 2025 (DAPO, "clip-higher").
    """
    ratio_M = (logps_M - old_logps_M).exp()
    clipped_ratio_M = ratio_M.clamp(1.0 - epsilon, 1.0 + epsilon_high)
    gain_M, clipped_gain_M = ratio_M * advantages_M, clipped_ratio_M * advantages_M
    with torch.no_grad():
        clipped_M = (clipped_gain_M < gain_M).float()
    return PolicyLoss(
        loss=-torch.minimum(gain_M, clipped_gain_M).sum() / count,
        clip_fraction=clipped_M.sum() / count,
    )


@dataclass(frozen=True, kw_only=True)
class ValueLoss:
    """Loss of the value function, and the share of values that the clip affects."""

    loss: Tensor
    clip_fraction: Tensor


def value_loss(
    values_M: Tensor, old_values_M: Tensor, returns_M: Tensor, *, clip: float | None, count: int
) -> ValueLoss:
    """Compute half the squared error to the returns, with the change of values clipped.

    ½·max((V − R)², (clip(V, V_old − c, V_old + c) − R)²); without a clip, ½·(V − R)² (Schulman 2017's
    code). The clip is in units of the value, that is of the reward, and must grow with its scale.
    """
    errors_M = (values_M - returns_M).square()
    if clip is None:
        return ValueLoss(loss=0.5 * errors_M.sum() / count, clip_fraction=errors_M.new_zeros(()))
    clipped_M = torch.maximum(torch.minimum(values_M, old_values_M + clip), old_values_M - clip)
    clipped_errors_M = (clipped_M - returns_M).square()
    return ValueLoss(
        loss=0.5 * torch.maximum(errors_M, clipped_errors_M).sum() / count,
        clip_fraction=(clipped_errors_M > errors_M).float().sum() / count,
    )


def explained_variance(values_M: Tensor, returns_M: Tensor) -> float:
    """Compute 1 − Var(R − V)/Var(R): 1 for a perfect value function, 0 for a constant one.

    0 when the returns do not vary, where the ratio is undefined.
    """
    spread = float(returns_M.double().var(correction=0))
    if spread <= 0.0:
        return 0.0
    return 1.0 - float((returns_M.double() - values_M.double()).var(correction=0)) / spread
