"""Losses, perplexities and KL estimates from log-probabilities of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def loss_and_perplexity(logps: Sequence[Tensor]) -> tuple[float, float]:
    """Compute the mean negative log-probability per token, in nats, and its exponential.

    Each token has the same weight, in a long row and in a short one.
    """
    tokens = torch.cat(list(logps)).double()
    loss = -float(tokens.mean())
    return loss, math.exp(min(loss, 700.0))


@dataclass(frozen=True)
class KLEstimates:
    """Estimates of KL(policy || other) per token, in nats, from samples of the policy."""

    k1: float
    """Mean of log p/q: unbiased, may be negative, high variance."""
    k3: float
    """Mean of q/p - 1 - log q/p: unbiased, never negative, less variance while p and q are close."""


def estimate_kl(policy: Sequence[Tensor], other: Sequence[Tensor]) -> KLEstimates:
    """Estimate KL(policy || other) per token over all completions.

    k1 and k3 of Schulman 2020, "Approximating KL Divergence", with p the policy and q the other model.

    Args:
        policy: Log-probabilities of tokens that the policy sampled at temperature 1 from all tokens.
        other: Log-probabilities of the same tokens under the other model.
    """
    log_ratio = torch.cat(list(other)).double() - torch.cat(list(policy)).double()
    return KLEstimates(
        k1=0.0 - float(log_ratio.mean()), k3=float((torch.expm1(log_ratio) - log_ratio).mean())
    )
