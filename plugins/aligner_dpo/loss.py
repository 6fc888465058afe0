"""DPO losses over pairs of completions: pure functions of log-probabilities, without any state.

Shapes: B pairs, T token positions. A name without letters is a plain number.
Signs: every loss is minimized, and every log-probability is a natural logarithm, so at most 0.

`from_tokens` reduces per-token log-probabilities to one number a completion, `LOSSES` has one
function per `loss_type`, and `dpo_loss` adds up the chosen ones and returns the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # PyTorch's own abbreviation
from torch import Tensor

LossType = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
DivergenceType = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]


@dataclass(frozen=True, kw_only=True)
class DPOLossSettings:
    """Hyperparameters of the DPO losses, named as in TRL's `DPOConfig`."""

    loss_type: tuple[LossType, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] | None = None
    """Weight of each loss, in the order of `loss_type`; all 1 where None."""
    beta: float = 0.1
    """β, strength of the regularization towards the reference."""
    label_smoothing: float = 0.0
    """ε, assumed share of pairs whose labels are swapped."""
    f_divergence_type: DivergenceType = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    """α, order of `alpha_divergence`."""
    discopop_tau: float = 0.05
    """τ, temperature of `discopop`."""


@dataclass(frozen=True, kw_only=True)
class TokenLogps:
    """Per-token log-probabilities of one side of the pairs under the policy."""

    logps_BT: Tensor
    mask_BT: Tensor
    """True on completion tokens; values elsewhere are ignored."""
    log_sum_sq_probs_BT: Tensor | None = None
    """log Σ_v π(v)², over the vocabulary; needed by `use_weighting` only."""


@dataclass(frozen=True, kw_only=True)
class PairLogps:
    """Log-probabilities of the completions of B pairs, summed over tokens."""

    chosen_logps_B: Tensor
    rejected_logps_B: Tensor
    ref_chosen_logps_B: Tensor
    ref_rejected_logps_B: Tensor
    chosen_lengths_B: Tensor
    """Number of tokens of each chosen completion."""
    rejected_lengths_B: Tensor
    chosen_full_logps_B: Tensor
    """Chosen log-probabilities without the down-weighting of LD-DPO; `sft` trains on these."""
    weights_B: Tensor | None = None
    """Weight of each pair (WPO), without a gradient; None weights all pairs equally."""

    @property
    def chosen_logratios_B(self) -> Tensor:
        """log π(chosen) - log π_ref(chosen)."""
        return self.chosen_logps_B - self.ref_chosen_logps_B

    @property
    def rejected_logratios_B(self) -> Tensor:
        """log π(rejected) - log π_ref(rejected)."""
        return self.rejected_logps_B - self.ref_rejected_logps_B


# ── From tokens to completions ────────────────────────────────────────────────────────────────────


def sequence_logps(
    logps_BT: Tensor,
    mask_BT: Tensor,
    *,
    shared_lengths_B: Tensor | None = None,
    ld_alpha: float | None = None,
) -> Tensor:
    """Sum log-probabilities over completion tokens, optionally length-desensitized.

    With `ld_alpha` = α, tokens beyond the length that both completions of the pair reach count α
    times: Σ_{t ≤ shared} log π_t + α·Σ_{t > shared} log π_t (LD-DPO, Liu 2024, arXiv:2409.06411).

    >>> logps, mask = torch.tensor([[-1.0, -2.0, -4.0]]), torch.tensor([[True, True, True]])
    >>> sequence_logps(logps, mask).tolist()
    [-7.0]
    >>> sequence_logps(logps, mask, shared_lengths_B=torch.tensor([2]), ld_alpha=0.5).tolist()
    [-5.0]
    """
    mask_BT = mask_BT.bool()
    if ld_alpha is None or shared_lengths_B is None:
        return torch.where(mask_BT, logps_BT, 0.0).sum(1)
    places_BT = mask_BT.cumsum(1)  # 1 at the first completion token
    is_shared_BT = places_BT <= shared_lengths_B.unsqueeze(1)
    shared_B = torch.where(mask_BT & is_shared_BT, logps_BT, 0.0).sum(1)
    tail_B = torch.where(mask_BT & ~is_shared_BT, logps_BT, 0.0).sum(1)
    return shared_B + ld_alpha * tail_B


def policy_likelihood(tokens: TokenLogps) -> Tensor:
    """Weight completions by their likelihood under the policy, relative to its own samples.

    w = exp(mean_t [log π(y_t) - log Σ_v π(v)²]), without a gradient (WPO, Zhou 2024,
    arXiv:2406.11827, eq. 2): 1 where tokens are as likely as those that the policy samples.
    """
    assert tokens.log_sum_sq_probs_BT is not None, "use_weighting needs log_sum_sq_probs_BT"
    mask_BT = tokens.mask_BT.bool()
    with torch.no_grad():
        aligned_BT = torch.where(mask_BT, tokens.logps_BT - tokens.log_sum_sq_probs_BT, 0.0)
        return torch.exp(aligned_BT.sum(1) / mask_BT.sum(1).clamp(min=1))


def from_tokens(
    chosen: TokenLogps,
    rejected: TokenLogps,
    *,
    ref_chosen_logps_B: Tensor,
    ref_rejected_logps_B: Tensor,
    ld_alpha: float | None = None,
    use_weighting: bool = False,
) -> PairLogps:
    """Reduce per-token log-probabilities of the policy to pairs.

    Args:
        chosen: Tokens of the chosen completions.
        rejected: Tokens of the rejected completions; T may differ from that of `chosen`.
        ref_chosen_logps_B: `sequence_logps` under the reference, with the same `ld_alpha`.
        ref_rejected_logps_B: The same of the rejected completions.
        ld_alpha: Weight of tokens beyond the shared length (LD-DPO); None counts all fully.
        use_weighting: Weight pairs by the likelihood of both completions (WPO).
    """
    chosen_lengths_B, rejected_lengths_B = chosen.mask_BT.sum(1), rejected.mask_BT.sum(1)
    shared_lengths_B = torch.minimum(chosen_lengths_B, rejected_lengths_B)
    chosen_logps_B, rejected_logps_B = (
        sequence_logps(
            side.logps_BT, side.mask_BT, shared_lengths_B=shared_lengths_B, ld_alpha=ld_alpha
        )
        for side in (chosen, rejected)
    )
    return PairLogps(
        chosen_logps_B=chosen_logps_B,
        rejected_logps_B=rejected_logps_B,
        ref_chosen_logps_B=ref_chosen_logps_B,
        ref_rejected_logps_B=ref_rejected_logps_B,
        chosen_lengths_B=chosen_lengths_B,
        rejected_lengths_B=rejected_lengths_B,
        chosen_full_logps_B=sequence_logps(chosen.logps_BT, chosen.mask_BT),
        weights_B=policy_likelihood(chosen) * policy_likelihood(rejected)
        if use_weighting
        else None,
    )


# ── Divergences ───────────────────────────────────────────────────────────────────────────────────
# DPO under an f-divergence replaces the log-ratio log u, u = π/π_ref, by f'(u) (f-DPO, Wang 2023,
# arXiv:2309.16240, table 1). The term that only depends on the prompt cancels in the difference of
# the two completions, so losses that are no function of that difference have no such form.


def reverse_kl(logratios_B: Tensor, alpha: float) -> Tensor:
    """KL(π ‖ π_ref): f'(u) = log u, up to a constant; plain DPO."""
    return logratios_B


def forward_kl(logratios_B: Tensor, alpha: float) -> Tensor:
    """KL(π_ref ‖ π): f'(u) = 1 - 1/u, up to a constant."""
    return 1 - torch.exp(-logratios_B)


def js_divergence(logratios_B: Tensor, alpha: float) -> Tensor:
    """Jensen-Shannon divergence: f'(u) = log(2u / (1 + u)) = log 2 + log σ(log u)."""
    return math.log(2) + F.logsigmoid(logratios_B)


def alpha_divergence(logratios_B: Tensor, alpha: float) -> Tensor:
    """α-divergence: f'(u) = (u^(α - 1) - 1) / (α - 1), which tends to log u as α tends to 1."""
    if abs(alpha - 1.0) < 1e-6:
        return logratios_B
    exponents_B = (alpha - 1.0) * logratios_B
    largest = 11.0 if exponents_B.dtype == torch.float16 else 80.0  # exp() stays finite in the type
    wide_B = exponents_B.to(torch.promote_types(exponents_B.dtype, torch.float32))
    powers_B = torch.exp(wide_B.clamp(max=largest)) - 1.0
    return powers_B.to(exponents_B.dtype) * (1.0 / (alpha - 1.0))


DIVERGENCES: Mapping[DivergenceType, Callable[[Tensor, float], Tensor]] = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "js_divergence": js_divergence,
    "alpha_divergence": alpha_divergence,
}


def scores(pairs: PairLogps, settings: DPOLossSettings) -> tuple[Tensor, Tensor]:
    """Return f'(π/π_ref) of the chosen and of the rejected completions; log-ratios in plain DPO."""
    derivative = DIVERGENCES[settings.f_divergence_type]
    alpha = settings.f_alpha_divergence_coef
    return (
        derivative(pairs.chosen_logratios_B, alpha),
        derivative(pairs.rejected_logratios_B, alpha),
    )


def margins(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """Δ = chosen score - rejected score, before it is multiplied by β."""
    chosen_B, rejected_B = scores(pairs, settings)
    return chosen_B - rejected_B


def mean_margins(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """Δ of scores divided by the number of tokens of their completion."""
    chosen_B, rejected_B = scores(pairs, settings)
    chosen_mean_B = chosen_B / pairs.chosen_lengths_B.clamp(min=1)
    return chosen_mean_B - rejected_B / pairs.rejected_lengths_B.clamp(min=1)


# ── Losses of the margin Δ ────────────────────────────────────────────────────────────────────────


def sigmoid(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """DPO: -log σ(βΔ) (Rafailov 2023, arXiv:2305.18290, eq. 7).

    With log-ratios 3 and -1 and β = 0.5, βΔ = 2 and the loss is log(1 + e^-2):

    >>> round(sigmoid(_example(3.0, -1.0), DPOLossSettings(beta=0.5)).item(), 6)
    0.126928
    """
    return -F.logsigmoid(settings.beta * margins(pairs, settings))


def sigmoid_norm(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """Length-normalized DPO: -log σ(βΔ), Δ per token (Tülu 3, Lambert 2024, arXiv:2411.15124)."""
    return -F.logsigmoid(settings.beta * mean_margins(pairs, settings))


def hinge(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """Hinge loss: max(0, 1 - βΔ) (SLiC, Zhao 2023, arXiv:2305.10425; RSO, Liu 2023, 2309.06657)."""
    return torch.relu(1 - settings.beta * margins(pairs, settings))


def ipo(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """IPO: (Δ - 1/(2β))² with Δ per token (Azar 2023, arXiv:2310.12036, eq. 17; β is τ there).

    The average per token, not in the paper's equation, is what its authors used. With log-ratios
    3 and -1 over 2 tokens each and β = 0.5: Δ = 1.5 + 0.5 = 2 and (2 - 1)² = 1.

    >>> ipo(_example(3.0, -1.0, length=2), DPOLossSettings(beta=0.5)).item()
    1.0
    """
    return (mean_margins(pairs, settings) - 1 / (2 * settings.beta)) ** 2


def robust(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """Robust DPO: [-(1 - ε) log σ(βΔ) + ε log σ(-βΔ)] / (1 - 2ε) (Chowdhury 2024, 2403.00409).

    An unbiased estimate of the DPO loss on clean labels, if a share ε of the labels is swapped.
    """
    logits_B = settings.beta * margins(pairs, settings)
    epsilon = settings.label_smoothing
    kept_B = -(1 - epsilon) * F.logsigmoid(logits_B)
    swapped_B = -epsilon * F.logsigmoid(-logits_B)
    return (kept_B - swapped_B) / (1 - 2 * epsilon)


def exo_pair(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """EXO: KL(q ‖ p), q = (σ(βΔ), σ(-βΔ)), p = (1 - ε, ε) (Ji 2024, arXiv:2402.00856, eq. 16)."""
    logits_B = settings.beta * margins(pairs, settings)
    epsilon = settings.label_smoothing
    chosen_B = torch.sigmoid(logits_B) * (F.logsigmoid(logits_B) - math.log1p(-epsilon))
    rejected_B = torch.sigmoid(-logits_B) * (F.logsigmoid(-logits_B) - math.log(epsilon))
    return chosen_B + rejected_B


def discopop(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """DiscoPOP: (1 - σ(βΔ/τ))·(-log σ(βΔ)) + σ(βΔ/τ)·exp(-βΔ) (Lu 2024, arXiv:2406.08414, eq. 5)."""
    logits_B = settings.beta * margins(pairs, settings)
    share_B = torch.sigmoid(logits_B / settings.discopop_tau)
    return -F.logsigmoid(logits_B) * (1 - share_B) + torch.exp(-logits_B) * share_B


# ── Losses of the two log-ratios by themselves ────────────────────────────────────────────────────
# r_w and r_l are the log-ratios log π/π_ref of the chosen (w) and the rejected (l) completion.


def nca_pair(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """NCA: -log σ(βr_w) - ½ log σ(-βr_w) - ½ log σ(-βr_l) (Chen 2024, arXiv:2402.05369)."""
    chosen_B = settings.beta * pairs.chosen_logratios_B
    rejected_B = settings.beta * pairs.rejected_logratios_B
    return -F.logsigmoid(chosen_B) - 0.5 * F.logsigmoid(-chosen_B) - 0.5 * F.logsigmoid(-rejected_B)


def bco_pair(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """BCO: -log σ(βr_w) - log σ(-βr_l) (Jung 2024, arXiv:2404.04656).

    The reward shift δ of the paper, a running mean of rewards, is 0 here as in TRL's pair form.
    """
    chosen_B = settings.beta * pairs.chosen_logratios_B
    rejected_B = settings.beta * pairs.rejected_logratios_B
    return -F.logsigmoid(chosen_B) - F.logsigmoid(-rejected_B)


def sppo_hard(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """SPPO: (r_w - 1/(2β))² + (r_l + 1/(2β))² (Wu 2024, arXiv:2405.00675, eq. 4.7).

    The probability that a completion wins is taken as 1 for chosen and 0 for rejected. With
    log-ratios 3 and -1 and β = 0.5: (3 - 1)² + (-1 + 1)² = 4.

    >>> sppo_hard(_example(3.0, -1.0), DPOLossSettings(beta=0.5)).item()
    4.0
    """
    target = 0.5 / settings.beta
    return (pairs.chosen_logratios_B - target) ** 2 + (pairs.rejected_logratios_B + target) ** 2


def apo_zero(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """APO-zero: 1 - σ(βr_w) + σ(βr_l) (D'Oosterlinck 2024, arXiv:2408.06266, eq. 7).

    Raises the chosen and lowers the rejected likelihood; for chosen completions that are better
    than what the policy writes.
    """
    chosen_B = 1 - torch.sigmoid(settings.beta * pairs.chosen_logratios_B)
    return chosen_B + torch.sigmoid(settings.beta * pairs.rejected_logratios_B)


def apo_down(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """APO-down: σ(βr_w) + 1 - σ(β(r_w - r_l)) (D'Oosterlinck 2024, arXiv:2408.06266, eq. 8).

    Lowers both likelihoods, the rejected one more; for chosen completions that are worse than what
    the policy writes.
    """
    differences_B = pairs.chosen_logratios_B - pairs.rejected_logratios_B
    rejected_B = 1 - torch.sigmoid(settings.beta * differences_B)
    return torch.sigmoid(settings.beta * pairs.chosen_logratios_B) + rejected_B


# ── Losses of the batch ───────────────────────────────────────────────────────────────────────────


def aot(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """AOT: smoothed -log σ(βδ), δ_i = s_(i) - s_ref,(i) (Melnyk 2024, arXiv:2406.05882).

    s = log π(chosen) - log π(rejected) is sorted over the batch under policy and reference each,
    so δ compares quantiles, not pairs; element i of the result belongs to no pair.
    """
    policy_B = (pairs.chosen_logps_B - pairs.rejected_logps_B).sort(dim=0).values
    reference_B = (pairs.ref_chosen_logps_B - pairs.ref_rejected_logps_B).sort(dim=0).values
    return _smoothed(policy_B - reference_B, settings)


def aot_unpaired(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """Unpaired AOT: smoothed -log σ(βδ), δ_i = r_w,(i) - r_l,(i) (Melnyk 2024, arXiv:2406.05882).

    The log-ratios of chosen and of rejected completions are sorted over the batch each.
    """
    chosen_B = pairs.chosen_logratios_B.sort(dim=0).values
    return _smoothed(chosen_B - pairs.rejected_logratios_B.sort(dim=0).values, settings)


def sft(pairs: PairLogps, settings: DPOLossSettings) -> Tensor:
    """Negative log-likelihood of the chosen completions, averaged over the batch's tokens.

    Every pair gets the same number, the mean over tokens of all chosen completions.
    """
    loss = -pairs.chosen_full_logps_B.sum() / pairs.chosen_lengths_B.sum().clamp(min=1)
    return loss.expand(len(pairs.chosen_logps_B))


def _smoothed(differences_B: Tensor, settings: DPOLossSettings) -> Tensor:
    logits_B = settings.beta * differences_B
    epsilon = settings.label_smoothing
    return -F.logsigmoid(logits_B) * (1 - epsilon) - F.logsigmoid(-logits_B) * epsilon


LOSSES: Mapping[LossType, Callable[[PairLogps, DPOLossSettings], Tensor]] = {
    "sigmoid": sigmoid,
    "hinge": hinge,
    "ipo": ipo,
    "exo_pair": exo_pair,
    "nca_pair": nca_pair,
    "robust": robust,
    "bco_pair": bco_pair,
    "sppo_hard": sppo_hard,
    "aot": aot,
    "aot_unpaired": aot_unpaired,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "discopop": discopop,
    "sft": sft,
    "sigmoid_norm": sigmoid_norm,
}


# ── The whole loss ────────────────────────────────────────────────────────────────────────────────


def dpo_loss(
    pairs: PairLogps, settings: DPOLossSettings
) -> tuple[Tensor, dict[str, tuple[Tensor, int]]]:
    """Add up the losses of `settings.loss_type` and compute the metrics.

    Returns:
        The loss of each pair (B,), whose mean is minimized, and TRL's metrics by name, each as a
        sum over pairs, without a gradient, and the number of pairs.
    """
    weights = settings.loss_weights or (1.0,) * len(settings.loss_type)
    losses_B = torch.zeros_like(pairs.chosen_logps_B)
    for name, weight in zip(settings.loss_type, weights, strict=True):
        loss_B = LOSSES[name](pairs, settings)
        if pairs.weights_B is not None:
            loss_B = loss_B * pairs.weights_B
        losses_B = losses_B + weight * loss_B
    return losses_B, metrics(pairs, beta=settings.beta)


def metrics(pairs: PairLogps, *, beta: float) -> dict[str, tuple[Tensor, int]]:
    """Compute rewards β·log(π/π_ref) and log-probabilities, each as a sum and a number of pairs."""
    with torch.no_grad():
        chosen_B, rejected_B = beta * pairs.chosen_logratios_B, beta * pairs.rejected_logratios_B
        values_B = {
            "rewards/chosen": chosen_B,
            "rewards/rejected": rejected_B,
            "rewards/accuracies": (chosen_B > rejected_B).float(),
            "rewards/margins": chosen_B - rejected_B,
            "logps/chosen": pairs.chosen_logps_B,
            "logps/rejected": pairs.rejected_logps_B,
        }
        return {name: (value_B.sum(), len(value_B)) for name, value_B in values_B.items()}


def _example(chosen: float, rejected: float, *, length: int = 1) -> PairLogps:
    """Make a pair of given log-ratios whose reference log-probabilities are 0, for the examples."""
    chosen_B, zero_B = torch.tensor([chosen]), torch.zeros(1)
    length_B = torch.tensor([length])
    return PairLogps(
        chosen_logps_B=chosen_B,
        rejected_logps_B=torch.tensor([rejected]),
        ref_chosen_logps_B=zero_B,
        ref_rejected_logps_B=zero_B,
        chosen_lengths_B=length_B,
        rejected_lengths_B=length_B,
        chosen_full_logps_B=chosen_B,
    )
