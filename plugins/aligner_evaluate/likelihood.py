"""Losses, perplexities and KL estimates from log-probabilities of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def loss_and_perplexity(logps: Sequence[Tensor]) -> tuple[float, float]:
    """Mean negative log-probability a token, in nats, over the tokens of all rows; and its exponential.

    Each token weighs the same, whatever the length of its row.
    """
    tokens = torch.cat(list(logps)).double()
    loss = -float(tokens.mean())
    return loss, math.exp(min(loss, 700.0))


@dataclass(frozen=True)
class Distance:
    """Estimates of KL(policy || other) a token, in nats, from samples of the policy."""

    k1: float
    """Mean of log p/q: unbiased, may be negative, noisy."""
    k3: float
    """Mean of q/p - 1 - log q/p: unbiased as well, never negative, less noisy while p and q are near."""


def distance(policy: Sequence[Tensor], other: Sequence[Tensor]) -> Distance:
    """KL(policy || other) a token, over all tokens of all answers (Schulman 2020, "Approximating KL
    Divergence": k1 and k3, with p the policy and q the other model).

    Args:
        policy: The policy's log-probabilities of tokens that it sampled, uncut and at temperature 1.
        other: The other model's, of the same tokens.
    """
    log_ratio = torch.cat(list(other)).double() - torch.cat(list(policy)).double()
    return Distance(
        k1=0.0 - float(log_ratio.mean()), k3=float((torch.expm1(log_ratio) - log_ratio).mean())
    )
