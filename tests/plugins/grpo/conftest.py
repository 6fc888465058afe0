"""GRPO on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.rl.context import RLContext
from aligner.stage import StepContext
from aligner.testing.rl import SMALL, step_context, tiny_rl
from aligner_grpo.algorithm import GRPOAlgorithm
from aligner_grpo.options import GRPOOptions


def options(**more: Any) -> GRPOOptions:
    """Options that suit tiny models; the data is never read."""
    return GRPOOptions(**({**SMALL, "num_iterations": 2, "beta": 0.05} | more))


def tiny_grpo(options: GRPOOptions, context: StepContext, **more: Any) -> RLContext:
    """Make the parts of a grpo step."""
    return tiny_rl(GRPOAlgorithm(options), context, **more)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[RLContext, StepContext]]:
    """Make the parts and the context of a step: `make(parts={"table": …}, iterations=5, …)`."""
    made = iter(range(1000))

    def make(
        *,
        seed: int = 0,
        folder: str | None = None,
        parts: dict[str, Any] | None = None,
        **more: Any,
    ) -> tuple[RLContext, StepContext]:
        context = step_context(tmp_path / (folder or str(next(made))), seed=seed)
        return tiny_grpo(options(**more), context, **(parts or {})), context

    return make
