"""Rewards, advantages and coefficients, by hand and against a plain implementation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner_ppo.advantage import (
    KLCoefficient,
    RunningScale,
    generalised_advantages,
    kl_estimate,
    token_rewards,
    whiten,
)


def ragged(lengths: list[int]) -> torch.Tensor:
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]


def plain_gae(rewards, values, last, gamma, lam):
    """Advantages of one response as the sum of discounted deltas (Schulman 2016, eq. 16)."""
    following = [*values[1:], last]
    deltas = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    return [
        sum((gamma * lam) ** (later - t) * deltas[later] for later in range(t, len(deltas)))
        for t in range(len(deltas))
    ]


def test_advantages_are_those_worked_by_hand() -> None:
    """γ = 0.9, λ = 0.5, so γλ = 0.45.

    Row 1 has two tokens and ended: r = (1, 2), V = (0.5, 1), then 0.
      δ₁ = 2 + 0 − 1 = 1;         A₁ = 1
      δ₀ = 1 + 0.9·1 − 0.5 = 1.4; A₀ = 1.4 + 0.45·1 = 1.85;  returns (2.35, 2)
    Row 2 has three tokens and is bootstrapped with V = 4: r = (0, 0, 1), V = (1, 2, 3).
      δ₂ = 1 + 3.6 − 3 = 1.6;     A₂ = 1.6
      δ₁ = 0 + 2.7 − 2 = 0.7;     A₁ = 0.7 + 0.72 = 1.42
      δ₀ = 0 + 1.8 − 1 = 0.8;     A₀ = 0.8 + 0.639 = 1.439;  returns (2.439, 3.42, 4.6)
    The 9s lie outside the mask and must not matter.
    """
    advantages, returns = generalised_advantages(
        torch.tensor([[1.0, 2.0, 9.0], [0.0, 0.0, 1.0]]),
        torch.tensor([[0.5, 1.0, 9.0], [1.0, 2.0, 3.0]]),
        torch.tensor([0.0, 4.0]),
        ragged([2, 3]),
        gamma=0.9,
        lam=0.5,
    )
    torch.testing.assert_close(advantages, torch.tensor([[1.85, 1.0, 0.0], [1.439, 1.42, 1.6]]))
    torch.testing.assert_close(returns, torch.tensor([[2.35, 2.0, 0.0], [2.439, 3.42, 4.6]]))


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    gamma=st.floats(0.0, 1.0),
    lam=st.floats(0.0, 1.0),
    seed=st.integers(0, 10_000),
)
def test_advantages_equal_the_plain_sum_on_any_batch(lengths, gamma, lam, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = ragged(lengths)
    rewards, values = torch.randn(2, *mask.shape, dtype=torch.float64, generator=generator)
    last = torch.randn(len(lengths), dtype=torch.float64, generator=generator)
    advantages, returns = generalised_advantages(rewards, values, last, mask, gamma=gamma, lam=lam)
    for row, length in enumerate(lengths):
        plain = plain_gae(
            rewards[row, :length].tolist(),
            values[row, :length].tolist(),
            float(last[row]),
            gamma,
            lam,
        )
        torch.testing.assert_close(advantages[row, :length].tolist(), plain)
        torch.testing.assert_close(
            returns[row, :length].tolist(),
            [a + v for a, v in zip(plain, values[row].tolist(), strict=False)],
        )
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


def test_with_lambda_and_gamma_one_the_return_is_the_sum_of_rewards_to_come() -> None:
    """r = (1, 2, 3) gives 6, 5, 3 whatever the values say."""
    _, returns = generalised_advantages(
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[7.0, -5.0, 0.3]]),
        torch.zeros(1),
        ragged([3]),
        gamma=1.0,
        lam=1.0,
    )
    torch.testing.assert_close(returns, torch.tensor([[6.0, 5.0, 3.0]]))


def test_the_score_lands_on_the_last_token_and_kl_costs_beta_a_nat() -> None:
    """β = 0.5: KL (1, 2) with score 3 gives (−0.5, −1 + 3); KL (4) with score −1 gives −2 − 1."""
    rewards = token_rewards(
        torch.tensor([3.0, -1.0]),
        torch.tensor([[1.0, 2.0], [4.0, 9.0]]),
        ragged([2, 1]),
        coefficient=0.5,
    )
    assert rewards.tolist() == [[-0.5, 2.0], [-3.0, 0.0]]


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


def test_whitening_is_that_worked_by_hand_and_does_not_read_padding() -> None:
    """x = 1, 2, 3, 6 (mean 3, unbiased variance (4 + 1 + 0 + 9)/3 = 14/3): (x − 3)/2.1602."""
    values = torch.tensor([[1.0, 2.0, 3.0], [6.0, 99.0, -99.0]])
    mask = ragged([3, 1])
    root = math.sqrt(14 / 3)
    expected = torch.tensor([[-2 / root, -1 / root, 0.0], [3 / root, 0.0, 0.0]])
    torch.testing.assert_close(whiten(values, mask), expected)
    kept = whiten(values, mask, shift_mean=False)
    torch.testing.assert_close(kept[mask], expected[mask] + 3.0)


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(1, 7), min_size=2, max_size=6), seed=st.integers(0, 10_000))
def test_whitened_values_have_mean_zero_and_variance_one(lengths, seed) -> None:
    mask = ragged(lengths)
    values = torch.randn(
        mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    white = whiten(values * 3 + 5, mask)[mask]
    assert abs(float(white.mean())) < 1e-6
    assert abs(float(white.var()) - 1.0) < 1e-5


@pytest.mark.parametrize("number", [0.0, 5.0])
def test_whitening_what_does_not_vary_gives_zero_and_not_nan(number) -> None:
    assert whiten(torch.full((2, 2), number), ragged([2, 2])).tolist() == [[0.0, 0.0]] * 2
    assert whiten(torch.full((1, 1), number), ragged([1])).tolist() == [[0.0]]


def test_the_coefficient_follows_ziegler() -> None:
    """Target 6, K_β = 0.1. KL 12: error clipped to 0.2, β·1.02. KL 6.6: error 0.1, β·1.01.
    KL 6: unchanged. KL 0: error −1 clipped to −0.2, β·0.98.
    """
    beta = KLCoefficient(value=1.0, target=6.0)
    found = [beta.after(kl).value for kl in (12.0, 6.6, 6.0, 0.0)]
    assert found == pytest.approx([1.02, 1.01, 1.0, 0.98])
    assert KLCoefficient(value=1.0).after(1e9).value == 1.0


def test_the_running_scale_is_the_deviation_of_all_scores_however_they_came() -> None:
    scores = (
        torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 4 + 2
    )
    scale = RunningScale()
    for part in scores.split([1, 7, 12, 30]):
        scale = scale.seeing(part)
    assert scale.count == 50
    assert scale.deviation == pytest.approx(float(scores.std()))
    assert RunningScale().deviation == 1.0
    assert RunningScale().seeing(torch.tensor([3.0, 3.0])).deviation == 1.0
