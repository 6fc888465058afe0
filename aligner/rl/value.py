"""Interface of value functions, and the model that one can be made from.

Shapes as in `forward`: K = M + B states of B rows, H hidden width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor, nn

from aligner.models.adapters import merge_stack
from aligner.models.load import load_as, load_model
from aligner.models.options import ModelOptions
from aligner.models.reward import make_reward, reward_head
from aligner.rl.forward import ResponseBatch
from aligner.stage import StepContext
from aligner.state import ModelCache, ModelState


class ValueFunction(ABC, nn.Module):
    """Estimate of the reward to come, from the state before each token and after the last."""

    learning_rate: float
    """Peak learning rate of its parameters."""
    shares_trunk: bool = False
    """True if its gradient flows into the policy's own weights."""

    @abstractmethod
    def forward(self, batch: ResponseBatch, hidden_KH: Tensor) -> Tensor:
        """Compute values (K,) in fp32.

        Args:
            batch: Prompts and responses.
            hidden_KH: Hidden states of the policy, for a function that reads these.
        """

    @abstractmethod
    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained for values alone, by name."""


def load_value_model(
    source: Literal["value", "reward", "policy"],
    options: ModelOptions,
    state: ModelState,
    context: StepContext,
    *,
    pad: int,
) -> Any:
    """Load or make a model with one output per token, to be trained as a value function.

    Call it before the policy is loaded: from `policy` it copies the weights that came in.

    Args:
        source: Slot of the initial weights. `value` continues a value model; `reward` copies the
            reward model with its head, adapters merged; `policy` gets a new head of zeros.
        options: Precision and attention kernel.
        state: Models of the chain.
        context: Model cache and seed.
        pad: Id of the padding token, for a model made from the policy.
    """
    kernel = options.attn_implementation
    if source == "value":
        return load_model(
            state.get("value"),
            context.model_cache,
            precision=options.precision,
            attn_implementation=kernel,
            trainable=True,
            reward=True,
        )
    if source == "reward":
        model = load_as(
            state.get("reward"),
            ModelCache(),
            dtype=torch.float32,
            attn_implementation=kernel,
            reward=True,
        )
        return merge_stack(model) if isinstance(model, PeftModel) else model
    made = make_reward(
        state.get("policy"),
        context.model_cache,
        seed=context.seed,
        pad=pad,
        attn_implementation=kernel,
    )
    for parameter in reward_head(made).parameters():
        nn.init.zeros_(parameter)
    return made
