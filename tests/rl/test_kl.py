"""KL estimators and the KL coefficient, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from aligner.rl.kl import KLCoefficient, kl_estimate


def test_the_estimators_are_those_worked_by_hand() -> None:
    """log π = −1, log π_ref = −2, so d = 1: k1 = 1, k2 = ½, k3 = e⁻¹ − 1 + 1 = 0.3679.
    With d = −1: k1 = −1, k2 = ½, k3 = e − 2 = 0.7183. With d = 0 each is 0.
    """
    logps, reference = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-2.0, -1.0, -3.0])
    expected = {
        "k1": [1.0, -1.0, 0.0],
        "k2": [0.5, 0.5, 0.0],
        "k3": [math.exp(-1.0), math.e - 2.0, 0.0],
    }
    for estimator, numbers in expected.items():
        found = kl_estimate(logps, reference, estimator=estimator)
        torch.testing.assert_close(found, torch.tensor(numbers))


@pytest.mark.parametrize(("estimator", "unbiased"), [("k1", True), ("k2", False), ("k3", True)])
def test_k1_and_k3_average_to_the_true_kl_and_k2_does_not(estimator, unbiased) -> None:
    """Under π = (0.7, 0.2, 0.1) and π_ref = (0.2, 0.3, 0.5), each estimate weighted by π."""
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    true = float((policy * (policy / reference).log()).sum())
    estimates = kl_estimate(policy.log(), reference.log(), estimator=estimator)
    assert (abs(float((policy * estimates).sum()) - true) < 1e-6) == unbiased


def test_the_coefficient_follows_ziegler() -> None:
    """Target 6, K_β = 0.1. KL 12: error clipped to 0.2, β·1.02. KL 6.6: error 0.1, β·1.01.
    KL 6: unchanged. KL 0: error −1 clipped to −0.2, β·0.98.
    """
    beta = KLCoefficient(value=1.0, target=6.0)
    found = [beta.after(kl).value for kl in (12.0, 6.6, 6.0, 0.0)]
    assert found == pytest.approx([1.02, 1.01, 1.0, 0.98])
    assert KLCoefficient(value=1.0).after(1e9).value == 1.0
