"""PPO on tiny models with each kind of value function."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForSequenceClassification

from aligner.models.side_adapter import SideAdapter
from aligner.rl.context import RLContext
from aligner.stage import StepContext
from aligner.testing.rl import SMALL, step_context, tiny_llama, tiny_rl
from aligner_ppo.algorithm import PPOAlgorithm
from aligner_ppo.options import PPOOptions
from aligner_ppo.value import ADAPTER, PPOValue, ValueAdapter, ValueHead, ValueModel


def options(**more: Any) -> PPOOptions:
    """Options that suit tiny models; the data is never read."""
    return PPOOptions(**({**SMALL, "num_ppo_epochs": 2, "value_learning_rate": 1e-3} | more))


def tiny_ppo(
    options: PPOOptions,
    context: StepContext,
    *,
    model: Any = None,
    kind: str = "model",
    **more: Any,
) -> RLContext:
    """Make the parts of a ppo step, with a value function of one of the three kinds."""
    model = tiny_llama() if model is None else model
    separate = value_model(model) if kind == "model" else None

    def value(policy: Any, parts: Any) -> PPOValue:
        width = parts.trunk.config.hidden_size
        if kind == "adapter":
            adapter = SideAdapter.add(policy, ADAPTER, seed=context.seed, label="ppo value")
            made: PPOValue = ValueAdapter(adapter, parts.trunk, width)
        else:
            made = ValueModel(separate) if kind == "model" else ValueHead(width)
        made.learning_rate = options.value_learning_rate or made.learning_rate
        return made

    return tiny_rl(PPOAlgorithm(options), context, model=model, value=value, **more)


def value_model(model: Any) -> Any:
    """Make the policy's trunk with a head of zeros, as a ppo step does."""
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    value = LlamaForSequenceClassification(config)
    value.model.load_state_dict(model.model.state_dict())
    torch.nn.init.zeros_(value.score.weight)
    return value


@pytest.fixture
def tiny() -> Callable[..., Any]:
    return tiny_llama


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[RLContext, StepContext]]:
    """Make the parts and the context of a step: `make(parts={"kind": "head"}, iterations=5, …)`."""
    made = iter(range(1000))

    def make(
        *,
        seed: int = 0,
        folder: str | None = None,
        parts: dict[str, Any] | None = None,
        **more: Any,
    ) -> tuple[RLContext, StepContext]:
        context = step_context(tmp_path / (folder or str(next(made))), seed=seed)
        return tiny_ppo(options(**more), context, **(parts or {})), context

    return make
