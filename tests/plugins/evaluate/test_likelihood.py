"""Losses, perplexities and KL estimates, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from aligner_evaluate.likelihood import estimate_kl, loss_and_perplexity


def test_every_token_weighs_the_same_whatever_row_it_is_in() -> None:
    """One token at ln 1/2 and three at ln 1/8: (ln 2 + 3 ln 8) / 4 = 2.5 ln 2, perplexity 2^2.5."""
    logps = [torch.tensor([0.5]).log(), torch.tensor([0.125] * 3).log()]
    loss, perplexity = loss_and_perplexity(logps)
    assert loss == pytest.approx(2.5 * math.log(2))
    assert perplexity == pytest.approx(2**2.5)


def test_a_hopeless_loss_has_a_finite_perplexity() -> None:
    assert math.isfinite(loss_and_perplexity([torch.tensor([-5000.0])])[1])


def test_distances_are_those_worked_by_hand() -> None:
    """Three tokens with p = 1/2, 1/2, 1/4 and q = 1/4, 1/2, 1/2.

    log p/q = ln 2, 0, -ln 2: k1 = 0. q/p = 1/2, 1, 2: k3 terms are 1/2 - 1 + ln 2, 0, 2 - 1 - ln 2,
    which sum to 1/2, so k3 = 1/6.
    """
    p = [torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25]).log()]
    q = [torch.tensor([0.25, 0.5]).log(), torch.tensor([0.5]).log()]
    found = estimate_kl(p, q)
    assert found.k1 == pytest.approx(0, abs=1e-7)
    assert found.k3 == pytest.approx(1 / 6)
    assert estimate_kl(q, p).k3 == pytest.approx(1 / 6)
    same = estimate_kl(p, p)
    assert (same.k1, same.k3) == (0, 0)


def test_both_estimates_come_to_the_true_divergence() -> None:
    """p = (0.7, 0.2, 0.1), q = (0.5, 0.3, 0.2): KL = 0.7 ln 1.4 + 0.2 ln 2/3 + 0.1 ln 1/2 = 0.0851.

    The samples are in the exact shares 7 : 2 : 1, so both estimators give the expectation itself.
    """
    tokens = torch.tensor([0] * 7 + [1] * 2 + [2])
    p, q = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.2]).log()
    true = 0.7 * math.log(1.4) + 0.2 * math.log(2 / 3) + 0.1 * math.log(1 / 2)
    found = estimate_kl([p[tokens]], [q[tokens]])
    assert found.k1 == pytest.approx(true, abs=1e-6)
    assert found.k3 == pytest.approx(true, abs=1e-6)
