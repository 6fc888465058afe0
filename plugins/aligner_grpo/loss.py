"""GRPO: group advantages and the clipped policy loss, as pure functions.

Shapes: N completions, M completion tokens of all of them in one row without padding, those of
completion 0 first. `lengths_N` assigns tokens to completions: Σ lengths = M. U stands for the unit
of importance sampling: M where each token has its own ratio, N where each completion has one.

A loss is the part of one micro-batch in one optimizer step: the sum of these parts, over
micro-batches and processes, is minimized. `StepSize` counts the whole step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GRPOLossType = Literal["grpo", "bnpo", "dr_grpo", "dapo"]
ScaleRewards = Literal["group", "batch", "none"]
ImportanceLevel = Literal["token", "sequence"]


# ── Advantages ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class GroupAdvantages:
    """Advantages of N completions, and their groups without any spread of rewards."""

    advantages_N: Tensor
    zero_std_N: Tensor
    """True where the standard deviation that scales the rewards is 0: nothing can be trained."""


def group_advantages(
    rewards_N: Tensor, *, num_generations: int, scale_rewards: ScaleRewards
) -> GroupAdvantages:
    """Compare each reward with the mean of its group, the completions of the same prompt.

    A_i = (r_i - mean(group)) / (std + 1e-4) (GRPO, Shao 2024, arXiv:2402.03300, §4.1.2), with the
    unbiased standard deviation of the group, or of the whole batch (`batch`, Liu 2025,
    arXiv:2508.08221); `none` leaves out the division (Dr. GRPO, Liu 2025, arXiv:2503.20783).

    Args:
        rewards_N: Rewards of all processes, those of a group next to each other. NaN marks a
            completion without a reward: its group is computed without it, its advantage is 0.
        num_generations: Completions of each prompt.
        scale_rewards: Standard deviation that rewards are divided by.

    >>> rewards = torch.tensor([1.0, 3.0, 0.0, 0.0])
    >>> group_advantages(rewards, num_generations=2, scale_rewards="none").advantages_N.tolist()
    [-1.0, 1.0, 0.0, 0.0]
    """
    rewards_GK = rewards_N.view(-1, num_generations)
    centered_N = (rewards_GK - rewards_GK.nanmean(1, keepdim=True)).flatten()
    if scale_rewards == "batch":
        std_N = _nanstd(rewards_N.unsqueeze(0)).expand(len(rewards_N))
    else:
        std_N = _nanstd(rewards_GK).repeat_interleave(num_generations)
    advantages_N = centered_N if scale_rewards == "none" else centered_N / (std_N + 1e-4)
    return GroupAdvantages(
        advantages_N=advantages_N.nan_to_num(nan=0.0),
        zero_std_N=std_N.isclose(torch.zeros_like(std_N)),
    )


def _nanstd(values_GK: Tensor) -> Tensor:
    """Compute the unbiased standard deviation (G,) of the rows, without their NaNs."""
    squares_GK = (values_GK - values_GK.nanmean(1, keepdim=True)).square()
    counts_G = (~values_GK.isnan()).sum(1)
    # Fewer than two values have no deviation: 0 / 0 is NaN.
    return (squares_GK.nansum(1) / (counts_G - 1).clamp(min=0)).sqrt()


# ── Normalization ─────────────────────────────────────────────────────────────────────────────────
# Each function returns the number by which the loss of every token of a completion is divided, (N,).


@dataclass(frozen=True, kw_only=True)
class StepSize:
    """Size of one optimizer step: all micro-batches and processes whose losses are added up."""

    completions: int
    tokens: int
    """Completion tokens."""
    micro_batches: int
    """Number of losses that are added up."""


def grpo(lengths_N: Tensor, step: StepSize, max_completion_length: int) -> Tensor:
    """Mean over the tokens of each completion, then over completions (Shao 2024, eq. 3)."""
    return step.completions * lengths_N.clamp(min=1)


def bnpo(lengths_N: Tensor, step: StepSize, max_completion_length: int) -> Tensor:
    """Mean over the tokens of the micro-batch, then over micro-batches."""
    return (step.micro_batches * lengths_N.sum().clamp(min=1)).expand(len(lengths_N))


def dr_grpo(lengths_N: Tensor, step: StepSize, max_completion_length: int) -> Tensor:
    """Sum over tokens, divided by a constant (Dr. GRPO, Liu 2025, arXiv:2503.20783).

    No token's weight depends on the length of its completion or of the others.
    """
    return torch.full_like(lengths_N, step.completions * max_completion_length)


def dapo(lengths_N: Tensor, step: StepSize, max_completion_length: int) -> Tensor:
    """Mean over all tokens of the step (DAPO, Yu 2025, arXiv:2503.14476, eq. 8)."""
    return torch.full_like(lengths_N, max(step.tokens, 1))


NORMALIZATIONS: Mapping[GRPOLossType, Callable[[Tensor, StepSize, int], Tensor]] = {
    "grpo": grpo,
    "bnpo": bnpo,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
}


# ── The policy loss ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class GRPOLossSettings:
    """Hyperparameters of the policy loss, named as in TRL's `GRPOConfig`."""

    loss_type: GRPOLossType = "dapo"
    beta: float = 0.0
    """Coefficient of the KL divergence to the reference; 0 needs no reference."""
    epsilon: float = 0.2
    """Ratios below 1 - epsilon are clipped where the advantage is negative."""
    epsilon_high: float | None = None
    """Ratios above 1 + epsilon_high are clipped where the advantage is positive (clip-higher, Yu
    2025, arXiv:2503.14476); None takes `epsilon`."""
    delta: float | None = None
    """Upper limit of all ratios, also where the advantage is negative (two-sided clipping,
    INTELLECT-2, 2025, arXiv:2505.07291); above 1 + epsilon_high. None sets no limit."""
    importance_sampling_level: ImportanceLevel = "token"
    """One ratio a token, or one a completion (GSPO, Zheng 2025, arXiv:2507.18071)."""
    use_bias_correction_kl: bool = True
    """Multiply the KL by the ratio, which makes its gradient unbiased (DeepSeek-V3.2, 2025,
    arXiv:2512.02556)."""
    max_completion_length: int = 256
    """Longest possible completion; the constant of `dr_grpo`."""


@dataclass(frozen=True, kw_only=True)
class CompletionLogps:
    """Log-probabilities of the tokens of N completions of one micro-batch."""

    lengths_N: Tensor
    logps_M: Tensor
    """Under the policy, with a gradient."""
    old_logps_M: Tensor | None = None
    """Under the policy that sampled the tokens; None if that is the current one, unchanged."""
    ref_logps_M: Tensor | None = None
    """Under the reference; needed where beta is not 0."""
    entropies_M: Tensor | None = None
    """Entropy of the policy at each token, for the metric."""

    @property
    def completions_M(self) -> Tensor:
        """Index of the completion of each token."""
        places_N = torch.arange(len(self.lengths_N), device=self.lengths_N.device)
        return places_N.repeat_interleave(self.lengths_N)


@dataclass(frozen=True, kw_only=True)
class GRPOLoss:
    """Policy loss of a micro-batch, and its metrics without a gradient."""

    loss: Tensor
    metrics: dict[str, tuple[Tensor, int]]
    """TRL's metrics by name: a sum, and the number of tokens or completions summed over."""
    low_clipped_N: Tensor
    """Share of each completion that is clipped from below; `clip_ratio/low_min` is the least."""
    high_clipped_N: Tensor
    """Share of each completion that is clipped from above; `clip_ratio/high_max` is the largest."""


def grpo_loss(
    tokens: CompletionLogps, advantages_N: Tensor, settings: GRPOLossSettings, *, step: StepSize
) -> GRPOLoss:
    """Compute the clipped policy loss with a KL penalty (GRPO, Shao 2024, arXiv:2402.03300, eq. 3).

    Each token's loss is -min(min(ρ, δ)·A, clip(ρ, 1 - ε, 1 + ε_high)·A) + β·KL, with the ratio
    ρ = π/π_old; `loss_type` is the way in which these are averaged.
    """
    completions_M = tokens.completions_M
    ratios_U = importance_ratios(tokens, settings.importance_sampling_level)
    is_per_token = settings.importance_sampling_level == "token"
    advantages_U = advantages_N[completions_M] if is_per_token else advantages_N
    limited_U = ratios_U if settings.delta is None else ratios_U.clamp(max=settings.delta)
    losses_U = clipped_loss(ratios_U, limited_U, advantages_U, settings)
    losses_M = losses_U if is_per_token else losses_U[completions_M]
    kl_M = None
    if settings.beta != 0.0:
        assert tokens.ref_logps_M is not None, "a KL coefficient needs reference log-probabilities"
        kl_M = k3_kl(tokens.logps_M, tokens.ref_logps_M)
        if settings.use_bias_correction_kl:
            kl_M = kl_M * (ratios_U if is_per_token else ratios_U[completions_M])
        losses_M = losses_M + settings.beta * kl_M
    normalize = NORMALIZATIONS[settings.loss_type]
    divisors_N = normalize(tokens.lengths_N, step, settings.max_completion_length)
    low_U, high_U = clipped(limited_U.detach(), advantages_U, settings)
    return GRPOLoss(
        loss=(losses_M / divisors_N[completions_M].to(losses_M.dtype)).sum(),
        metrics=_metrics(low_U, high_U, kl_M=kl_M, entropies_M=tokens.entropies_M),
        low_clipped_N=_completion_means(low_U, tokens) if is_per_token else low_U,
        high_clipped_N=_completion_means(high_U, tokens) if is_per_token else high_U,
    )


def importance_ratios(tokens: CompletionLogps, level: ImportanceLevel) -> Tensor:
    """Compute π/π_old: of each token, or of each completion the geometric mean over its tokens.

    GRPO uses the first, (M,); GSPO (Zheng 2025, arXiv:2507.18071, eq. 7) the second, (N,). Both are
    1 with the gradient of log π where the policy has not changed since sampling.
    """
    old_logps_M = tokens.logps_M.detach() if tokens.old_logps_M is None else tokens.old_logps_M
    log_ratios_M = tokens.logps_M - old_logps_M
    return (log_ratios_M if level == "token" else _completion_means(log_ratios_M, tokens)).exp()


def clipped_loss(
    ratios_U: Tensor, limited_U: Tensor, advantages_U: Tensor, settings: GRPOLossSettings
) -> Tensor:
    """Return -min(ρ·A, clip(ρ, 1 - ε, 1 + ε_high)·A), with the first ρ limited by `delta`.

    With ε = 0.2: ρ = 1.5 and A = 2 give -2.4, clipped, and A = -2 gives 3, not clipped, which
    delta = 1.25 limits to 2.5.

    >>> ratios, advantages = torch.tensor([1.5, 1.5]), torch.tensor([2.0, -2.0])
    >>> [round(x, 3) for x in clipped_loss(ratios, ratios, advantages, GRPOLossSettings()).tolist()]
    [-2.4, 3.0]
    >>> limited = ratios.clamp(max=1.25)
    >>> [round(x, 3) for x in clipped_loss(ratios, limited, advantages, GRPOLossSettings()).tolist()]
    [-2.4, 2.5]
    """
    lower, upper = _clip_range(settings)
    clipped_U = ratios_U.clamp(lower, upper)
    return -torch.minimum(limited_U * advantages_U, clipped_U * advantages_U)


def clipped(
    limited_U: Tensor, advantages_U: Tensor, settings: GRPOLossSettings
) -> tuple[Tensor, Tensor]:
    """Return 1.0 where the gradient is clipped from below, and where from above."""
    lower, upper = _clip_range(settings)
    low_U = (limited_U < lower) & (advantages_U < 0)
    high_U = (limited_U > upper) & (advantages_U > 0)
    return low_U.float(), high_U.float()


def k3_kl(logps_M: Tensor, ref_logps_M: Tensor) -> Tensor:
    """Estimate KL(π ‖ π_ref) at each token by k3: e^d - d - 1, d = log π_ref - log π.

    Never negative, and unbiased for tokens sampled from π (Schulman 2020).

    With log π = -1 and log π_ref = -2: e^-1 + 1 - 1 = 0.368.

    >>> round(k3_kl(torch.tensor(-1.0), torch.tensor(-2.0)).item(), 3)
    0.368
    """
    differences_M = ref_logps_M - logps_M
    return torch.exp(differences_M) - differences_M - 1


def _clip_range(settings: GRPOLossSettings) -> tuple[float, float]:
    high = settings.epsilon if settings.epsilon_high is None else settings.epsilon_high
    return 1 - settings.epsilon, 1 + high


def _completion_means(values_M: Tensor, tokens: CompletionLogps) -> Tensor:
    sums_N = values_M.new_zeros(len(tokens.lengths_N))
    sums_N = sums_N.index_add(0, tokens.completions_M, values_M)
    return sums_N / tokens.lengths_N.clamp(min=1)


def _metrics(
    low_U: Tensor, high_U: Tensor, *, kl_M: Tensor | None, entropies_M: Tensor | None
) -> dict[str, tuple[Tensor, int]]:
    values = {
        "clip_ratio/low_mean": low_U,
        "clip_ratio/high_mean": high_U,
        "clip_ratio/region_mean": low_U + high_U,
        "kl": kl_M,
        "entropy": entropies_M,
    }
    return {
        name: (value.detach().sum(), len(value))
        for name, value in values.items()
        if value is not None
    }
