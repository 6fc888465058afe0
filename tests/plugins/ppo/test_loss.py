"""The losses, by hand and against a plain implementation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.rl.algorithm import ratio_metrics
from aligner_ppo.loss import explained_variance, policy_loss, value_loss


def test_the_policy_loss_is_that_worked_by_hand() -> None:
    """Clip 0.2 on both sides, five tokens, ratio and advantage:

      ρ 1.5, A  2: min( 3.0,  1.2·2) =  2.4   clipped
      ρ 1.5, A −2: min(−3.0, −2.4)   = −3.0   not clipped: the move away is worse than it looks
      ρ 0.5, A  2: min( 1.0,  1.6)   =  1.0
      ρ 0.5, A −2: min(−1.0, −1.6)   = −1.6   clipped
      ρ 1.0, A  3: 3
    Sum 1.8, so the loss of a minibatch of 5 is −0.36; clipped 2/5; mean ratio 1.0.
    """
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.0])
    advantages = torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0])
    found = policy_loss(
        ratios.log() - 1.0,
        torch.full((5,), -1.0),
        advantages,
        epsilon=0.2,
        epsilon_high=0.2,
        count=5,
    )
    assert float(found.loss) == pytest.approx(-0.36)
    assert float(found.clip_fraction) == pytest.approx(0.4)
    moved = ratio_metrics(ratios.log() - 1.0, torch.full((5,), -1.0), tokens=5)
    assert float(moved["ratio"]) == pytest.approx(1.0)
    k3 = sum(r - 1 - math.log(r) for r in ratios.tolist()) / 5
    assert float(moved["step_kl"]) == pytest.approx(k3, abs=1e-6)


def test_unequal_limits_clip_each_side_by_its_own() -> None:
    """epsilon 0.1, epsilon_high 0.3: ρ 1.25, A 1 is free (1.25); ρ 0.8, A −1 is held at −0.9."""
    found = policy_loss(
        torch.tensor([1.25, 0.8]).log(),
        torch.zeros(2),
        torch.tensor([1.0, -1.0]),
        epsilon=0.1,
        epsilon_high=0.3,
        count=2,
    )
    assert float(found.loss) == pytest.approx(-(1.25 - 0.9) / 2)


def test_a_clipped_token_has_no_gradient_and_a_free_one_has_minus_advantage_times_ratio() -> None:
    """d(−ρA/2)/d log π = −ρA/2: for ρ = 0.5, A = 2 that is −0.5; ρ = 1.5, A = 2 is clipped."""
    logps = torch.tensor([1.5, 0.5]).log().requires_grad_()
    policy_loss(
        logps, torch.zeros(2), torch.tensor([2.0, 2.0]), epsilon=0.2, epsilon_high=0.2, count=2
    ).loss.backward()
    assert logps.grad is not None
    torch.testing.assert_close(logps.grad, torch.tensor([0.0, -0.5]))


def test_the_value_loss_is_that_worked_by_hand() -> None:
    """Clip 0.5, count 3:

      V 2, V_old 1, R 3: (2−3)² = 1;     clip to 1.5: 2.25   -> 2.25  clipped
      V 2, V_old 1, R 1: (2−1)² = 1;     clip to 1.5: 0.25   -> 1
      V 1, V_old 1, R 0: 1 either way                        -> 1
    ½·(2.25 + 1 + 1)/3 = 0.70833; without a clip ½·(1 + 1 + 1)/3 = 0.5.
    """
    values, old, returns = torch.tensor([[2.0, 2.0, 1.0], [1.0, 1.0, 1.0], [3.0, 1.0, 0.0]])
    clipped = value_loss(values, old, returns, clip=0.5, count=3)
    assert float(clipped.loss) == pytest.approx(4.25 / 6)
    assert float(clipped.clip_fraction) == pytest.approx(1 / 3)
    free = value_loss(values, old, returns, clip=None, count=3)
    assert float(free.loss) == pytest.approx(0.5)
    assert float(free.clip_fraction) == 0.0


def plain_losses(logps, old, advantages, values, old_values, returns, low, high, clip):
    """Both losses token by token in Python floats, as the papers write them."""
    policy = critic = 0.0
    for lp, op, a, v, ov, r in zip(
        logps, old, advantages, values, old_values, returns, strict=True
    ):
        ratio = math.exp(lp - op)
        policy -= min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a)
        held = min(max(v, ov - clip), ov + clip)
        critic += 0.5 * max((v - r) ** 2, (held - r) ** 2)
    return policy / len(logps), critic / len(logps)


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 30),
    low=st.floats(0.01, 0.9),
    high=st.floats(0.01, 2.0),
    clip=st.floats(0.01, 2.0),
    seed=st.integers(0, 10_000),
)
def test_the_losses_equal_the_plain_ones_on_any_batch(tokens, low, high, clip, seed) -> None:
    six = torch.randn(6, tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    policy, critic = plain_losses(*six.tolist(), low, high, clip)
    found = policy_loss(six[0], six[1], six[2], epsilon=low, epsilon_high=high, count=tokens)
    assert float(found.loss) == pytest.approx(policy)
    assert float(value_loss(*six[3:], clip=clip, count=tokens).loss) == pytest.approx(critic)


@settings(deadline=None, max_examples=20)
@given(tokens=st.integers(2, 30), cut=st.integers(1, 29), seed=st.integers(0, 10_000))
def test_micro_batches_add_up_to_the_minibatch(tokens, cut, seed) -> None:
    cut = min(cut, tokens - 1)
    six = torch.randn(6, tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def both(part: torch.Tensor) -> float:
        policy = policy_loss(part[0], part[1], part[2], epsilon=0.2, epsilon_high=0.2, count=tokens)
        return float(policy.loss + value_loss(*part[3:], clip=0.2, count=tokens).loss)

    assert both(six[:, :cut]) + both(six[:, cut:]) == pytest.approx(both(six))


def test_explained_variance_is_one_when_right_zero_when_constant_and_negative_when_worse() -> None:
    """R = (0, 2, 4), variance 8/3. V = R explains 1. V = 7 explains 0. V = −R: the errors are 2R,
    of variance 4·8/3, so 1 − 4 = −3. Returns that do not vary: 0.
    """
    returns = torch.tensor([0.0, 2.0, 4.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.full((3,), 7.0), returns) == 0.0
    assert explained_variance(-returns, returns) == -3.0
    assert explained_variance(returns, torch.ones(3)) == 0.0
