"""The learning-rate schedule, step by step."""

from __future__ import annotations

import pytest

from aligner.rl.optimizer import learning_rate_factor
from aligner.rl.options import OptimizerOptions


def test_the_schedule_is_stepped_per_optimizer_step() -> None:
    """10 steps, warm-up over 2 (a fifth): 1/3, 2/3, then from 1 down to the last of 8 steps."""
    linear = OptimizerOptions(lr_scheduler_type="linear", warmup_steps=0.2)
    found = [learning_rate_factor(step, 10, linear) for step in range(10)]
    assert found == pytest.approx([1 / 3, 2 / 3, *((8 - k) / 8 for k in range(8))])
    cosine = OptimizerOptions(lr_scheduler_type="cosine", warmup_steps=2)
    assert learning_rate_factor(2, 10, cosine) == pytest.approx(1.0)
    assert learning_rate_factor(6, 10, cosine) == pytest.approx(0.5)
    assert {learning_rate_factor(step, 10, OptimizerOptions()) for step in range(10)} == {1.0}
