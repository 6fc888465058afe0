"""KTO: losses over completions labeled desirable or undesirable, as pure functions.

Shapes: B completions; every log-probability is a sum over the tokens of its completion. In the
equations r = log π - log π_ref is the log-ratio of a completion, β `beta`, and z0 the reference
point. A loss is minimized by its mean over completions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from aligner_kto.options import KTOOptions


def reference_point(logratios_B: Tensor) -> Tensor:
    """Estimate z0 = max(0, mean(r)) from completions y' that belong to other prompts, no gradient.

    Pairs (x, y') of a prompt with another row's completion make z0 an estimate of KL(π ‖ π_ref)
    without samples of the policy (KTO, Ethayarajh 2024, arXiv:2402.01306, §4.1). Give the rows of
    all processes, so that all have the same z0.

    >>> reference_point(torch.tensor([2.0, 1.0])).item(), reference_point(torch.tensor([-2.0])).item()
    (1.5, 0.0)
    """
    return logratios_B.mean().detach().clamp(min=0)


def kto(logratios_B: Tensor, labels_B: Tensor, beta: float, z0: Tensor) -> Tensor:
    """KTO: 1 - σ(β(r - z0)) if desirable, 1 - σ(β(z0 - r)) if not (Ethayarajh 2024, §4.1).

    With β = 0.5, r = 3 and z0 = 1: 1 - σ(1) and 1 - σ(-1).

    >>> losses = kto(torch.tensor([3.0, 3.0]), torch.tensor([True, False]), 0.5, torch.tensor(1.0))
    >>> [round(loss, 6) for loss in losses.tolist()]
    [0.268941, 0.731059]
    """
    return 1 - torch.sigmoid(beta * torch.where(labels_B, logratios_B - z0, z0 - logratios_B))


def apo_zero_unpaired(logratios_B: Tensor, labels_B: Tensor, beta: float, z0: Tensor) -> Tensor:
    """APO-zero: 1 - σ(βr) if desirable, σ(βr) if not; no z0 (D'Oosterlinck 2024, 2408.06266)."""
    rewards_B = torch.sigmoid(beta * logratios_B)
    return torch.where(labels_B, 1 - rewards_B, rewards_B)


LOSSES: Mapping[str, Callable[[Tensor, Tensor, float, Tensor], Tensor]] = {
    f.__name__: f for f in (kto, apo_zero_unpaired)
}


def kto_loss(
    logps_B: Tensor, ref_logps_B: Tensor, labels_B: Tensor, options: KTOOptions, *, z0: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted loss of each completion (B,), and the metrics.

    Args:
        logps_B: log π of the completions.
        ref_logps_B: log π_ref of the completions.
        labels_B: True where a completion is desirable.
        options: The loss and its hyperparameters.
        z0: `reference_point` of the batch.

    Metrics have TRL's names, and values whose mean over completions is logged; NaN marks completions
    that a metric does not cover. `rewards/accuracies`, which TRL does not have, is the share of
    completions whose log-ratio is above z0 if and only if they are desirable.
    """
    logratios_B = logps_B - ref_logps_B
    losses_B = LOSSES[options.loss_type](logratios_B, labels_B, options.beta, z0)
    weighted_B = losses_B * torch.where(
        labels_B,
        losses_B.new_tensor(options.desirable_weight),
        losses_B.new_tensor(options.undesirable_weight),
    )
    rewards_B, seen_B = options.beta * logratios_B.detach(), logps_B.detach()
    nan = rewards_B.new_tensor(float("nan"))
    metrics = {
        "rewards/chosen": torch.where(labels_B, rewards_B, nan),
        "rewards/rejected": torch.where(labels_B, nan, rewards_B),
        "rewards/accuracies": ((logratios_B.detach() > z0) == labels_B).float(),
        "logps/chosen": torch.where(labels_B, seen_B, nan),
        "logps/rejected": torch.where(labels_B, nan, seen_B),
        "kl": z0,
    }
    margin = metrics["rewards/chosen"].nanmean() - metrics["rewards/rejected"].nanmean()
    return weighted_B, metrics | {"rewards/margins": margin}
