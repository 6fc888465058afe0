"""KTO: losses over completions labeled desirable or undesirable, as pure functions.

Shapes: B completions, each with one label; every log-probability is a sum over its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

KTOLossType = Literal["kto", "apo_zero_unpaired"]


@dataclass(frozen=True, kw_only=True)
class KTOLossSettings:
    """Hyperparameters of the KTO losses, named as in TRL's `KTOConfig`."""

    loss_type: KTOLossType = "kto"
    beta: float = 0.1
    """β, strength of the regularization towards the reference."""
    desirable_weight: float = 1.0
    """λ_D, weight of the losses of desirable completions."""
    undesirable_weight: float = 1.0
    """λ_U, weight of the losses of undesirable completions."""


def reference_point(kl_logps_B: Tensor, ref_kl_logps_B: Tensor) -> Tensor:
    """Estimate the reference point z0 = max(0, mean(log π(y'|x) - log π_ref(y'|x))).

    Each prompt x is paired with the completion y' of another row, so that z0 estimates
    KL(π ‖ π_ref) without samples of the policy (KTO, Ethayarajh 2024, arXiv:2402.01306, §4.1). It
    has no gradient. Give the rows of all processes, so that all use the same z0.

    >>> reference_point(torch.tensor([-1.0, -4.0]), torch.tensor([-3.0, -5.0])).item()
    1.5
    >>> reference_point(torch.tensor([-3.0]), torch.tensor([-1.0])).item()
    0.0
    """
    return (kl_logps_B - ref_kl_logps_B).mean().detach().clamp(min=0)


def kto(logratios_B: Tensor, labels_B: Tensor, beta: float, z0: Tensor) -> Tensor:
    """KTO: 1 - σ(β(r - z0)) if desirable, 1 - σ(β(z0 - r)) if not (Ethayarajh 2024, §4.1).

    r = log π/π_ref. With β = 0.5, r = 3 and z0 = 1, the exponent is 1 or -1:

    >>> losses = kto(torch.tensor([3.0, 3.0]), torch.tensor([True, False]), 0.5, torch.tensor(1.0))
    >>> [round(loss, 6) for loss in losses.tolist()]
    [0.268941, 0.731059]
    """
    differences_B = torch.where(labels_B, logratios_B - z0, z0 - logratios_B)
    return 1 - torch.sigmoid(beta * differences_B)


def apo_zero_unpaired(logratios_B: Tensor, labels_B: Tensor, beta: float, z0: Tensor) -> Tensor:
    """Unpaired APO-zero: 1 - σ(βr) if desirable, σ(βr) if not (D'Oosterlinck 2024, 2408.06266).

    There is no reference point; z0 is ignored.
    """
    return torch.where(
        labels_B, 1 - torch.sigmoid(beta * logratios_B), torch.sigmoid(beta * logratios_B)
    )


KTO_LOSSES: Mapping[KTOLossType, Callable[[Tensor, Tensor, float, Tensor], Tensor]] = {
    "kto": kto,
    "apo_zero_unpaired": apo_zero_unpaired,
}


def kto_loss(
    logps_B: Tensor, ref_logps_B: Tensor, labels_B: Tensor, settings: KTOLossSettings, *, z0: Tensor
) -> tuple[Tensor, dict[str, tuple[Tensor, int]]]:
    """Compute the weighted loss of each completion, and the metrics.

    Args:
        logps_B: log π of the completions, summed over tokens.
        ref_logps_B: The same under the reference.
        labels_B: True where the completion is desirable.
        settings: Loss and its hyperparameters.
        z0: `reference_point` of the batch.

    Returns:
        The losses (B,), whose mean is minimized, and TRL's metrics by name, each as a sum over
        completions, without a gradient, and their number. `rewards/margins` is the difference of
        the means `rewards/chosen` and `rewards/rejected`, so it has no sum of its own.
    """
    logratios_B = logps_B - ref_logps_B
    losses_B = KTO_LOSSES[settings.loss_type](logratios_B, labels_B, settings.beta, z0)
    losses_B = losses_B * torch.where(
        labels_B,
        losses_B.new_tensor(settings.desirable_weight),
        losses_B.new_tensor(settings.undesirable_weight),
    )
    rewards_B = settings.beta * logratios_B.detach()
    found: dict[str, tuple[Tensor, int]] = {"kl": (z0, 1)}
    for side, is_side_B in (("chosen", labels_B), ("rejected", ~labels_B)):
        count = int(is_side_B.sum())
        found[f"rewards/{side}"] = (rewards_B[is_side_B].sum(), count)
        found[f"logps/{side}"] = (logps_B.detach()[is_side_B].sum(), count)
    return losses_B, found
