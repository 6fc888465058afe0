"""Turn scores, log-probabilities and values into per-token rewards, advantages and returns.

Shapes: N responses, R positions of the longest one. Every (N, R) tensor is floating point, holds
response tokens from column 0 on, and comes with `mask_NR` (bool, true on real tokens). What lies
outside the mask is never read and comes back as 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(logps: Tensor, reference_logps: Tensor, *, estimator: Estimator) -> Tensor:
    """Estimate KL(policy ‖ reference) at each token from the one token that was sampled, in nats.

    With d = log π(a|s) − log π_ref(a|s), for a sampled from π (Schulman 2020, "Approximating KL
    divergence"):  k1 = d, unbiased, may be negative;  k2 = d²/2, biased, never negative;
    k3 = exp(−d) − 1 + d, unbiased, never negative.

    Args:
        logps: Log-probabilities under the policy, of any shape.
        reference_logps: The same under the reference.
        estimator: Which of the three.

    Returns:
        The estimates, in the shape of `logps`.
    """
    difference = logps - reference_logps
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    return torch.expm1(-difference) + difference


def token_rewards(
    scores_N: Tensor, kl_NR: Tensor, mask_NR: Tensor, *, coefficient: float
) -> Tensor:
    """Reward of each token: −β·KL everywhere, and the response's score on its last token.

    Ziegler 2019, eq. 2, written per token as Stiennon 2020 and Ouyang 2022 use it. The last token
    is the stop token where the response ended, and the last one sampled where it was cut off.
    """
    lengths_N = mask_NR.sum(1)
    assert bool((lengths_N > 0).all()), "a response has at least one token"
    rewards_NR = torch.where(mask_NR, -coefficient * kl_NR, 0.0)
    rewards_NR[torch.arange(len(scores_N), device=scores_N.device), lengths_N - 1] += scores_N
    return rewards_NR


def generalised_advantages(
    rewards_NR: Tensor,
    values_NR: Tensor,
    last_values_N: Tensor,
    mask_NR: Tensor,
    *,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Advantages by GAE(γ, λ), and the returns the value function is fitted to.

    δ_t = r_t + γ·V(s_{t+1}) − V(s_t),  A_t = δ_t + γλ·A_{t+1},  return_t = A_t + V(s_t)
    (Schulman 2016, eq. 11, 12 and 16).

    Args:
        rewards_NR: Per-token rewards.
        values_NR: V(s_t), the value before token t is chosen.
        last_values_N: V of the state after the last token: 0 where the response ended, the value
            function's own estimate where a cut-off response is bootstrapped (Pardo 2018).
        mask_NR: True on real tokens.
        gamma: Discount a token.
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


def whiten(values_NR: Tensor, mask_NR: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale to unit variance over all real tokens, and to mean 0 unless `shift_mean` is off.

    (x − mean) / sqrt(var + 1e-8) with the unbiased variance. Given the whole iteration, on every
    process, it whitens over the global batch. A batch without variance becomes 0, not NaN.
    """
    real = values_NR[mask_NR]
    mean = real.mean()
    variance = (real - mean).square().sum() / max(real.numel() - 1, 1)
    white_NR = (values_NR - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        white_NR = white_NR + mean
    return torch.where(mask_NR, white_NR, 0.0)


@dataclass(frozen=True, kw_only=True)
class KLCoefficient:
    """β, what a nat of KL costs in reward; fixed, or steered to a target (Ziegler 2019, §2.2)."""

    value: float
    target: float | None = None
    """KL a response, in nats, that β is steered to; None keeps β as it is."""
    gain: float = 0.1
    """K_β: the largest relative change in one iteration is gain × 0.2."""

    def after(self, kl: float) -> KLCoefficient:
        """β for the next iteration, when this one's responses had `kl` nats each on average.

        e = clip(KL/target − 1, −0.2, 0.2),  β ← β·(1 + K_β·e).

        >>> KLCoefficient(value=0.1, target=6.0).after(12.0).value
        0.10200000000000001
        >>> KLCoefficient(value=0.1).after(12.0).value
        0.1
        """
        if self.target is None:
            return self
        error = min(max(kl / self.target - 1.0, -0.2), 0.2)
        return replace(self, value=self.value * (1.0 + self.gain * error))


@dataclass(frozen=True, kw_only=True)
class RunningScale:
    """Spread of all scores seen so far, by which scores are divided (Zheng 2023, PPO-max).

    Count, mean and sum of squared distances are merged batch by batch (Chan 1979), so the state is
    three numbers and does not depend on how the scores were divided among processes.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def seeing(self, scores: Tensor) -> RunningScale:
        """The scale with `scores` (1-D) taken in."""
        new = scores.double()
        number, mean = new.numel(), float(new.mean())
        total = self.count + number
        shift = mean - self.mean
        return RunningScale(
            count=total,
            mean=self.mean + shift * number / total,
            squares=self.squares
            + float((new - mean).square().sum())
            + shift**2 * self.count * number / total,
        )

    @property
    def deviation(self) -> float:
        """Standard deviation of the scores seen; 1 while it is unknown or 0."""
        if self.count < 2 or self.squares <= 0.0:
            return 1.0
        return float((self.squares / (self.count - 1)) ** 0.5)
