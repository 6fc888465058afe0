"""DPO losses of preference pairs: pure functions of log-probabilities and options.

Shapes: B pairs. r_w and r_l are the log-ratios log π/π_ref of the chosen (w) and the rejected (l)
completion, and Δ is the difference of their scores, which are the log-ratios themselves in plain DPO.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from aligner.kit.work import PairLogps
from aligner_dpo.options import DPOOptions


def dpo_loss(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Return the weighted sum of the means over pairs of the losses in `loss_type`.

    With `use_weighting`, pairs count by the likelihood of both completions (WPO, Zhou 2024, eq. 2).
    """
    weights = options.loss_weights or (1.0,) * len(options.loss_type)
    total = torch.zeros((), device=pairs.chosen_logps_B.device)
    for name, weight in zip(options.loss_type, weights, strict=True):
        losses_B = LOSSES[name](pairs, options)
        if options.use_weighting:
            losses_B = losses_B * (pairs.chosen.likelihood_N() * pairs.rejected.likelihood_N())
        total = total + losses_B.mean() * weight
    return total


def score(logratios_B: Tensor, options: DPOOptions) -> Tensor:
    """Return f'(π/π_ref), up to a constant, for the divergence that is penalized.

    With u = π/π_ref: reverse KL log u, which is plain DPO; forward KL 1 - 1/u; Jensen-Shannon
    log(2u/(1 + u)); α-divergence (u^(α-1) - 1)/(α-1) (f-DPO, Wang 2023, arXiv:2309.16240, table 1).
    """
    kind, alpha = options.f_divergence_type, options.f_alpha_divergence_coef
    if kind == "forward_kl":
        return 1 - torch.exp(-logratios_B)
    if kind == "js_divergence":
        return math.log(2) + logsigmoid(logratios_B)
    if kind == "reverse_kl" or abs(alpha - 1) < 1e-6:  # the limit of α to 1
        return logratios_B
    exponents_B = (alpha - 1) * logratios_B
    largest = 11.0 if exponents_B.dtype == torch.float16 else 80.0  # exp() stays finite in the type
    powers_B = torch.exp(exponents_B.float().clamp(max=largest)) - 1
    return powers_B.to(exponents_B.dtype) * (1 / (alpha - 1))


def margin(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Return Δ, the difference of the scores."""
    chosen_B = score(pairs.chosen_logratios_B, options)
    return chosen_B - score(pairs.rejected_logratios_B, options)


def margin_per_token(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Return Δ of scores divided by the number of tokens of their completion."""
    chosen_B = score(pairs.chosen_logratios_B, options) / pairs.chosen.lengths_N.clamp(min=1)
    rejected_B = score(pairs.rejected_logratios_B, options) / pairs.rejected.lengths_N.clamp(min=1)
    return chosen_B - rejected_B


def sigmoid(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """DPO: -log σ(βΔ) (Rafailov 2023, arXiv:2305.18290, eq. 7)."""
    return -logsigmoid(options.beta * margin(pairs, options))


def sigmoid_norm(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Length-normalized DPO: -log σ(βΔ), Δ per token (Tülu 3, Lambert 2024, arXiv:2411.15124)."""
    return -logsigmoid(options.beta * margin_per_token(pairs, options))


def hinge(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Hinge loss: max(0, 1 - βΔ) (SLiC, Zhao 2023, arXiv:2305.10425)."""
    return torch.relu(1 - options.beta * margin(pairs, options))


def ipo(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """IPO: (Δ - 1/(2β))², Δ per token as its authors computed it (Azar 2023, arXiv:2310.12036, eq. 17)."""
    return (margin_per_token(pairs, options) - 1 / (2 * options.beta)) ** 2


def robust(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Robust DPO: [-(1-ε) log σ(βΔ) + ε log σ(-βΔ)]/(1-2ε) (Chowdhury 2024, arXiv:2403.00409)."""
    delta_B, beta, epsilon = margin(pairs, options), options.beta, options.label_smoothing
    kept_B = -(1 - epsilon) * logsigmoid(beta * delta_B)
    swapped_B = -epsilon * logsigmoid(-beta * delta_B)
    return (kept_B - swapped_B) / (1 - 2 * epsilon)


def exo_pair(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """EXO: KL(q ‖ p), q = (σ(βΔ), σ(-βΔ)), p = (1-ε, ε) (Ji 2024, arXiv:2402.00856, eq. 16)."""
    delta_B, beta = margin(pairs, options), options.beta
    epsilon = torch.tensor(options.label_smoothing, device=delta_B.device)
    chosen_B = torch.sigmoid(beta * delta_B) * (logsigmoid(beta * delta_B) - torch.log1p(-epsilon))
    log_ratio_B = logsigmoid(-beta * delta_B) - torch.log(epsilon)
    return chosen_B + torch.sigmoid(-beta * delta_B) * log_ratio_B


def discopop(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """DiscoPOP: (1-s)·(-log σ(βΔ)) + s·exp(-βΔ), s = σ(βΔ/τ) (Lu 2024, arXiv:2406.08414, eq. 5)."""
    logits_B = margin(pairs, options) * options.beta
    share_B = torch.sigmoid(logits_B / options.discopop_tau)
    return -logsigmoid(logits_B) * (1 - share_B) + torch.exp(-logits_B) * share_B


# Losses of each log-ratio by itself.


def nca_pair(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """NCA: -log σ(βr_w) - ½ log σ(-βr_w) - ½ log σ(-βr_l) (Chen 2024, arXiv:2402.05369)."""
    chosen_B, rejected_B = _rewards(pairs, options)
    return -logsigmoid(chosen_B) - 0.5 * logsigmoid(-chosen_B) - 0.5 * logsigmoid(-rejected_B)


def bco_pair(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """BCO without a reward shift: -log σ(βr_w) - log σ(-βr_l) (Jung 2024, arXiv:2404.04656)."""
    chosen_B, rejected_B = _rewards(pairs, options)
    return -logsigmoid(chosen_B) - logsigmoid(-rejected_B)


def sppo_hard(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """SPPO: (r_w - 1/(2β))² + (r_l + 1/(2β))² (Wu 2024, arXiv:2405.00675, eq. 4.7)."""
    target = 0.5 / options.beta
    return (pairs.chosen_logratios_B - target) ** 2 + (pairs.rejected_logratios_B + target) ** 2


def apo_zero(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """APO-zero: 1 - σ(βr_w) + σ(βr_l) (D'Oosterlinck 2024, arXiv:2408.06266, eq. 7)."""
    chosen_B, rejected_B = _rewards(pairs, options)
    return 1 - torch.sigmoid(chosen_B) + torch.sigmoid(rejected_B)


def apo_down(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """APO-down: σ(βr_w) + 1 - σ(β(r_w - r_l)) (D'Oosterlinck 2024, arXiv:2408.06266, eq. 8)."""
    difference_B = pairs.chosen_logratios_B - pairs.rejected_logratios_B
    rejected_B = 1 - torch.sigmoid(options.beta * difference_B)
    return torch.sigmoid(options.beta * pairs.chosen_logratios_B) + rejected_B


# Losses of the whole batch.


def aot(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """AOT: smoothed -log σ(βδ) of quantiles δ_i = s_(i) - s_ref,(i) (Melnyk 2024, arXiv:2406.05882).

    s = log π(chosen) - log π(rejected), sorted over the batch under policy and reference each.
    """
    policy_B = (pairs.chosen_logps_B - pairs.rejected_logps_B).sort(dim=0).values
    reference_B = (pairs.ref_chosen_logps_B - pairs.ref_rejected_logps_B).sort(dim=0).values
    return _smoothed(policy_B - reference_B, options)


def aot_unpaired(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Unpaired AOT: the same of δ_i = r_w,(i) - r_l,(i), each sorted over the batch."""
    chosen_B = pairs.chosen_logratios_B.sort(dim=0).values
    return _smoothed(chosen_B - pairs.rejected_logratios_B.sort(dim=0).values, options)


def sft(pairs: PairLogps, options: DPOOptions) -> Tensor:
    """Negative log-likelihood of the chosen completions, averaged over the batch's tokens."""
    nll = -pairs.chosen.logps_NT[pairs.chosen.mask_NT].mean()
    return nll.expand(len(pairs.chosen_logps_B))


def _rewards(pairs: PairLogps, options: DPOOptions) -> tuple[Tensor, Tensor]:
    return options.beta * pairs.chosen_logratios_B, options.beta * pairs.rejected_logratios_B


def _smoothed(differences_B: Tensor, options: DPOOptions) -> Tensor:
    beta, epsilon = options.beta, options.label_smoothing
    kept_B = -logsigmoid(beta * differences_B) * (1 - epsilon)
    return kept_B - logsigmoid(-beta * differences_B) * epsilon


_LOSSES = (sigmoid, sigmoid_norm, hinge, ipo, robust, exo_pair, discopop, nca_pair, bco_pair,
           sppo_hard, apo_zero, apo_down, aot, aot_unpaired, sft)  # fmt: skip
LOSSES: Mapping[str, Callable[[PairLogps, DPOOptions], Tensor]] = {f.__name__: f for f in _LOSSES}
