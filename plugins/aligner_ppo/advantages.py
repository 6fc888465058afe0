"""Rewards, advantages and returns of each token.

Shapes: N responses, R positions of the longest one. Every (N, R) tensor is floating point, contains
response tokens from column 0 on, and comes with `mask_NR` (bool, true on response tokens). Values
outside the mask are never read and are returned as 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(
    scores_N: Tensor, kl_NR: Tensor, mask_NR: Tensor, *, coefficient: float
) -> Tensor:
    """Compute the reward of each token: −β·KL, and the response's score on its last token.

    Ziegler 2019, eq. 2, written per token as Stiennon 2020 and Ouyang 2022 use it. The last token
    is the stop token where the response ended, and the last one sampled where it was truncated.
    """
    lengths_N = mask_NR.sum(1)
    assert bool((lengths_N > 0).all()), "a response has at least one token"
    rewards_NR = torch.where(mask_NR, -coefficient * kl_NR, 0.0)
    rewards_NR[torch.arange(len(scores_N), device=scores_N.device), lengths_N - 1] += scores_N
    return rewards_NR


def generalized_advantages(
    rewards_NR: Tensor,
    values_NR: Tensor,
    last_values_N: Tensor,
    mask_NR: Tensor,
    *,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Compute advantages by GAE(γ, λ), and the returns that are the targets of the value function.

    δ_t = r_t + γ·V(s_{t+1}) − V(s_t),  A_t = δ_t + γλ·A_{t+1},  return_t = A_t + V(s_t)
    (Schulman 2016, eq. 11, 12 and 16).

    Args:
        rewards_NR: Per-token rewards.
        values_NR: V(s_t), the value before token t is sampled.
        last_values_N: V of the state after the last token: 0 where the response ended, the value
            function's estimate where a truncated response is bootstrapped (Pardo 2018).
        mask_NR: True on response tokens.
        gamma: Discount per token.
        lam: λ; 1 is Monte Carlo, 0 one-step temporal difference.

    Returns:
        (advantages_NR, returns_NR), 0 outside the mask.
    """
    rows = torch.arange(len(values_NR), device=values_NR.device)
    next_values_NR = torch.zeros_like(values_NR)
    next_values_NR[:, :-1] = values_NR[:, 1:]
    next_values_NR[rows, mask_NR.sum(1) - 1] = last_values_N
    deltas_NR = torch.where(mask_NR, rewards_NR + gamma * next_values_NR - values_NR, 0.0)
    advantages_NR = torch.zeros_like(deltas_NR)
    following_N = torch.zeros_like(last_values_N)
    for t in reversed(range(deltas_NR.shape[1])):
        following_N = deltas_NR[:, t] + gamma * lam * following_N
        advantages_NR[:, t] = following_N
    return advantages_NR, torch.where(mask_NR, advantages_NR + values_NR, 0.0)
