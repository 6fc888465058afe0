"""Normalization of advantages and scores.

Shapes: N responses, R positions of the longest one; `mask_NR` is true on response tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def whiten(values_NR: Tensor, mask_NR: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale to unit variance over all response tokens, and to mean 0 unless `shift_mean` is off.

    (x − mean) / sqrt(var + 1e-8) with the unbiased variance. Every process has the whole iteration,
    so this whitens over the global batch. A batch without variance becomes 0, not NaN.
    """
    real = values_NR[mask_NR]
    mean = real.mean()
    variance = (real - mean).square().sum() / max(real.numel() - 1, 1)
    white_NR = (values_NR - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        white_NR = white_NR + mean
    return torch.where(mask_NR, white_NR, 0.0)


@dataclass(frozen=True, kw_only=True)
class RunningScale:
    """Standard deviation of all scores so far, by which scores are divided (Zheng 2023, PPO-max).

    Count, mean and sum of squared distances are merged batch by batch (Chan 1979), so the state is
    three numbers and does not depend on the distribution of scores over processes.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def updated(self, scores: Tensor) -> RunningScale:
        """Return the scale that includes `scores` (1-D)."""
        new = scores.double()
        number, mean = new.numel(), float(new.mean())
        total = self.count + number
        shift = mean - self.mean
        return RunningScale(
            count=total,
            mean=self.mean + shift * number / total,
            squares=self.squares
            + float((new - mean).square().sum())
            + shift**2 * self.count * number / total,
        )

    @property
    def deviation(self) -> float:
        """Standard deviation of the scores so far; 1 while it is unknown or 0."""
        if self.count < 2 or self.squares <= 0.0:
            return 1.0
        return float((self.squares / (self.count - 1)) ** 0.5)
