"""Whitening and the running scale, by hand and on any batch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.rl.normalization import RunningScale, whiten


def ragged(lengths: list[int]) -> torch.Tensor:
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]


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


def test_the_running_scale_is_the_deviation_of_all_scores_however_they_came() -> None:
    scores = (
        torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 4 + 2
    )
    scale = RunningScale()
    for part in scores.split([1, 7, 12, 30]):
        scale = scale.updated(part)
    assert scale.count == 50
    assert scale.deviation == pytest.approx(float(scores.std()))
    assert RunningScale().deviation == 1.0
    assert RunningScale().updated(torch.tensor([3.0, 3.0])).deviation == 1.0
