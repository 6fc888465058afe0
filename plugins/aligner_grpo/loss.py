"""GRPO: group advantages and the clipped policy loss, as pure functions.

Shapes: N completions; M tokens, those of all completions in one row without padding, of the first
completion first, so Σ lengths_N = M. U is M where each token has a ratio of its own, and N where
each completion has one.

A loss is the part of one micro-batch in one optimizer step, which minimizes the sum of these parts
over micro-batches and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aligner.kit.work import StepSize
from aligner_grpo.options import GRPOLossOptions, ScaleRewards


def group_advantages(
    rewards_N: Tensor, *, num_generations: int, scale_rewards: ScaleRewards
) -> tuple[Tensor, Tensor]:
    """Compare each reward with the mean of its group, the completions of the same prompt.

    A = (r - mean(group)) / (std + 1e-4), std unbiased (GRPO, Shao 2024, arXiv:2402.03300, §4.1.2).

    Args:
        rewards_N: Rewards of all processes, those of a group next to each other. NaN marks a
            completion without a reward: its group is computed without it, its advantage is 0.
        num_generations: Completions of each prompt.
        scale_rewards: std of the group, of the batch, or no division.

    Returns:
        The advantages (N,), and (N,) true where std is 0, so that nothing can be trained.

    >>> rewards = torch.tensor([1.0, 3.0, 0.0, 0.0])
    >>> group_advantages(rewards, num_generations=2, scale_rewards="none")[0].tolist()
    [-1.0, 1.0, 0.0, 0.0]
    """
    rewards_GK = rewards_N.view(-1, num_generations)
    centered_N = (rewards_GK - rewards_GK.nanmean(1, keepdim=True)).flatten()
    if scale_rewards == "batch":
        std_N = _nanstd(rewards_N.unsqueeze(0)).expand(len(rewards_N))
    else:
        std_N = _nanstd(rewards_GK).repeat_interleave(num_generations)
    advantages_N = centered_N if scale_rewards == "none" else centered_N / (std_N + 1e-4)
    return advantages_N.nan_to_num(nan=0.0), std_N.isclose(torch.zeros_like(std_N))


def _nanstd(values_GK: Tensor) -> Tensor:
    """Compute the unbiased standard deviation (G,) of the rows, without their NaNs."""
    squares_GK = (values_GK - values_GK.nanmean(1, keepdim=True)).square()
    # Fewer than two values have no deviation: 0 / 0 is NaN.
    degrees_G = ((~values_GK.isnan()).sum(1) - 1).clamp(min=0)
    return (squares_GK.nansum(1) / degrees_G).sqrt()


# Normalizations: numbers (N,) by which the loss of every token of a completion is divided.


def grpo(lengths_N: Tensor, step: StepSize, longest: int) -> Tensor:
    """Mean over the tokens of each completion, then over completions (Shao 2024, eq. 3)."""
    return step.completions * lengths_N.clamp(min=1)


def bnpo(lengths_N: Tensor, step: StepSize, longest: int) -> Tensor:
    """Mean over the tokens of the micro-batch, then over micro-batches."""
    return (step.micro_batches * lengths_N.sum().clamp(min=1)).expand(len(lengths_N))


def dr_grpo(lengths_N: Tensor, step: StepSize, longest: int) -> Tensor:
    """Sum over tokens divided by the longest possible length, a constant (Liu 2025, 2503.20783)."""
    return torch.full_like(lengths_N, step.completions * longest)


def dapo(lengths_N: Tensor, step: StepSize, longest: int) -> Tensor:
    """Mean over all tokens of the step (DAPO, Yu 2025, arXiv:2503.14476, eq. 8)."""
    return torch.full_like(lengths_N, max(step.tokens, 1))


NORMALIZATIONS: Mapping[str, Callable[[Tensor, StepSize, int], Tensor]] = {
    f.__name__: f for f in (grpo, bnpo, dr_grpo, dapo)
}


@dataclass(frozen=True, kw_only=True)
class ResponseLogps:
    """Log-probabilities of the tokens of N completions of one micro-batch."""

    lengths_N: Tensor
    logps_M: Tensor
    """Under the policy, with a gradient."""
    old_logps_M: Tensor | None = None
    """Under the policy that sampled the tokens; None where that is the current one, unchanged."""
    ref_logps_M: Tensor | None = None
    """Under the reference; needed where `beta` is not 0."""
    entropies_M: Tensor | None = None
    """Entropy of the policy before each token, for the metric."""

    def mean(self, values_M: Tensor) -> Tensor:
        """Average over the tokens of each completion, (N,)."""
        sums_N = values_M.new_zeros(len(self.lengths_N)).index_add(0, self.completions_M, values_M)
        return sums_N / self.lengths_N.clamp(min=1)

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
    """TRL's metrics by name: a sum, and the number of tokens or completions that were added up."""
    low_clipped_N: Tensor
    """Share of each completion clipped at 1 - epsilon; `clip_ratio/low_min` is the least."""
    high_clipped_N: Tensor
    """Share of each completion clipped at 1 + epsilon_high; `clip_ratio/high_max` is the largest."""


def grpo_loss(
    tokens: ResponseLogps,
    advantages_N: Tensor,
    options: GRPOLossOptions,
    *,
    step: StepSize,
    max_completion_length: int,
) -> GRPOLoss:
    """Compute the clipped policy loss with a KL penalty (GRPO, Shao 2024, arXiv:2402.03300, eq. 3).

    A token's loss is -min(min(ρ, δ)·A, clip(ρ, 1 - ε, 1 + ε_high)·A) + β·KL, ρ = π/π_old. With
    ratio 1 it is -A; the sum below is (-1 + 2·1) / 3 tokens:

    >>> tokens = ResponseLogps(lengths_N=torch.tensor([1, 2]), logps_M=torch.zeros(3))
    >>> step = StepSize(completions=2, tokens=3, micro_batches=1)
    >>> advantages, options = torch.tensor([1.0, -1.0]), GRPOLossOptions(loss_type="dapo")
    >>> loss = grpo_loss(tokens, advantages, options, step=step, max_completion_length=9).loss
    >>> round(loss.item(), 4)
    0.3333
    """
    completions_M = tokens.completions_M
    is_per_token = options.importance_sampling_level == "token"
    ratios_U = importance_ratios(tokens, is_per_token=is_per_token)
    ratios_M = ratios_U if is_per_token else ratios_U[completions_M]
    limited_M = ratios_M if options.delta is None else ratios_M.clamp(max=options.delta)
    low, high = 1 - options.epsilon, 1 + (options.epsilon_high or options.epsilon)
    advantages_M = advantages_N[completions_M]
    losses_M = -torch.minimum(limited_M * advantages_M, ratios_M.clamp(low, high) * advantages_M)
    metrics: dict[str, tuple[Tensor, int]] = {}
    if options.beta != 0.0:
        assert tokens.ref_logps_M is not None, "a KL penalty needs reference log-probabilities"
        kl_M = k3_kl(tokens.logps_M, tokens.ref_logps_M)
        kl_M = kl_M * ratios_M if options.use_bias_correction_kl else kl_M
        losses_M = losses_M + options.beta * kl_M
        metrics["kl"] = kl_M.detach().sum(), len(kl_M)
    if tokens.entropies_M is not None:
        metrics["entropy"] = tokens.entropies_M.detach().sum(), len(tokens.entropies_M)
    low_M = ((limited_M < low) & (advantages_M < 0)).to(losses_M.dtype)
    high_M = ((limited_M > high) & (advantages_M > 0)).to(losses_M.dtype)
    for name, clipped_M in (("low", low_M), ("high", high_M), ("region", low_M + high_M)):
        clipped_U = clipped_M if is_per_token else tokens.mean(clipped_M)
        metrics[f"clip_ratio/{name}_mean"] = clipped_U.sum(), len(clipped_U)
    divisors_N = NORMALIZATIONS[options.loss_type](tokens.lengths_N, step, max_completion_length)
    return GRPOLoss(
        loss=(losses_M / divisors_N[completions_M].to(losses_M.dtype)).sum(),
        metrics=metrics,
        low_clipped_N=tokens.mean(low_M),
        high_clipped_N=tokens.mean(high_M),
    )


def importance_ratios(tokens: ResponseLogps, *, is_per_token: bool) -> Tensor:
    """Compute ρ = π/π_old of each token, or its geometric mean over each completion.

    GRPO uses the first, GSPO (Zheng 2025, arXiv:2507.18071, eq. 7) the second. Where the policy has
    not changed since sampling, ρ is 1 with the gradient of log π.
    """
    old_logps_M = tokens.logps_M.detach() if tokens.old_logps_M is None else tokens.old_logps_M
    log_ratios_M = tokens.logps_M - old_logps_M
    return (log_ratios_M if is_per_token else tokens.mean(log_ratios_M)).exp()


def k3_kl(logps_M: Tensor, ref_logps_M: Tensor) -> Tensor:
    """Estimate KL(π ‖ π_ref) at each token by k3: e^d - d - 1, d = log π_ref - log π.

    Never negative, and unbiased for tokens sampled from π (Schulman 2020).

    >>> round(k3_kl(torch.tensor(-1.0), torch.tensor(-2.0)).item(), 3)  # e^-1 + 1 - 1
    0.368
    """
    differences_M = ref_logps_M - logps_M
    return torch.exp(differences_M) - differences_M - 1
