"""Estimators of the KL divergence to the reference, and its coefficient.

Shapes: N responses, R positions of the longest one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3"]


def kl_estimate(logps: Tensor, reference_logps: Tensor, *, estimator: KLEstimator) -> Tensor:
    """Estimate KL(policy ‖ reference) at each token from the one token that was sampled, in nats.

    With d = log π(a|s) − log π_ref(a|s), for a sampled from π (Schulman 2020, "Approximating KL
    divergence"):  k1 = d, unbiased, may be negative;  k2 = d²/2, biased, never negative;
    k3 = exp(−d) − 1 + d, unbiased, never negative.

    Args:
        logps: Log-probabilities under the policy, of any shape.
        reference_logps: The same under the reference.
        estimator: Name of the estimator.

    Returns:
        The estimates, in the shape of `logps`.
    """
    difference = logps - reference_logps
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    return torch.expm1(-difference) + difference


@dataclass(frozen=True, kw_only=True)
class KLCoefficient:
    """Coefficient β of the KL divergence; constant, or adapted to a target (Ziegler 2019, §2.2)."""

    value: float
    target: float | None = None
    """KL divergence per response, in nats, to which β is adapted; None keeps β constant."""
    gain: float = 0.1
    """K_β: the largest relative change in one iteration is gain × 0.2."""

    def after(self, kl: float) -> KLCoefficient:
        """Return β for the next iteration, given this one's mean KL divergence per response.

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
