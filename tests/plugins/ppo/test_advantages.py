"""Rewards and advantages of tokens, by hand and against a plain implementation."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner_ppo.advantages import generalized_advantages, token_rewards


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
    advantages, returns = generalized_advantages(
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
    advantages, returns = generalized_advantages(rewards, values, last, mask, gamma=gamma, lam=lam)
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
    _, returns = generalized_advantages(
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
