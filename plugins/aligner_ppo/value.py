"""Value functions: a head on the policy's trunk, an adapter of its own, or a model of its own.

Shapes as in `forward`: K = M + B states of B rows, H hidden width.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aligner.models.adapters import TOP, activate, belongs_to, seeded, stack_of
from aligner.models.reward import head_of
from aligner_ppo.forward import Rows

Kind = Literal["head", "adapter", "model"]
ADAPTER = "value"


class ValueFunction(ABC, nn.Module):
    """Estimates what reward is still to come, from the state before each token and after the last."""

    kind: Kind
    needs_trunk: bool = False
    """Whether its gradient flows into the policy's own weights."""

    @abstractmethod
    def forward(self, rows: Rows, hidden_KH: Tensor) -> Tensor:
        """Values (K,) in fp32.

        Args:
            rows: The prompts and responses.
            hidden_KH: The policy's hidden states, for a function that reads those.
        """

    @abstractmethod
    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained for values alone, by name."""


class HeadOnTrunk(ValueFunction):
    """One more output of the policy: no memory, no extra pass, but the trunk serves two masters."""

    kind = "head"
    needs_trunk = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = _zero_head(width)

    def forward(self, rows: Rows, hidden_KH: Tensor) -> Tensor:
        del rows
        return _read(self.head, hidden_KH)

    def trained(self) -> dict[str, nn.Parameter]:
        return {f"head.{name}": p for name, p in self.head.named_parameters()}


class OwnAdapter(ValueFunction):
    """The policy's frozen weights below an adapter and a head of its own: one more pass, no copy."""

    kind = "adapter"

    def __init__(self, policy: Any, trunk: Any, width: int) -> None:
        """Use the adapter that `add_value_adapter` has put on `policy`."""
        super().__init__()
        # In a tuple, so that the policy's weights are not registered as the value function's.
        self._shared = (policy, trunk)
        self._names = (*stack_of(policy)[:-1], ADAPTER)
        self.head = _zero_head(width)

    def forward(self, rows: Rows, hidden_KH: Tensor) -> Tensor:
        del hidden_KH
        policy, trunk = self._shared
        with adapters(policy, self._names):
            hidden_BTH = trunk(input_ids=rows.tokens_BT, use_cache=False).last_hidden_state
        return _read(self.head, rows.states(hidden_BTH))

    def trained(self) -> dict[str, nn.Parameter]:
        own = {
            name: parameter
            for name, parameter in self._shared[0].named_parameters()
            if belongs_to(name, ADAPTER)
        }
        return own | {f"head.{name}": p for name, p in self.head.named_parameters()}


class OwnModel(ValueFunction):
    """A sequence-classification model with one label, read at every state; a second backbone."""

    kind = "model"

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.requires_grad_(True).eval()
        self._head = head_of(model)

    def forward(self, rows: Rows, hidden_KH: Tensor) -> Tensor:
        del hidden_KH
        trunk = self.model.base_model
        hidden_BTH = trunk(input_ids=rows.tokens_BT, use_cache=False).last_hidden_state
        values_K1: Tensor = self._head(rows.states(hidden_BTH)).float()
        return values_K1[:, 0]

    def trained(self) -> dict[str, nn.Parameter]:
        return {f"model.{name}": p for name, p in self.model.named_parameters()}


def _zero_head(width: int) -> nn.Linear:
    """A head that estimates 0 everywhere, so that the first advantages are the rewards themselves."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _read(head: nn.Linear, hidden_KH: Tensor) -> Tensor:
    with torch.autocast(hidden_KH.device.type, enabled=False):
        values_K1: Tensor = head(hidden_KH.float())
    return values_K1[:, 0]


@contextmanager
def adapters(policy: Any, active: Sequence[str]) -> Iterator[None]:
    """Compute with other adapters for a while; what requires a gradient stays as it is.

    Switching adapters changes what requires a gradient, so the marks are put back after each switch:
    a gradient that is still to flow would be lost with them.
    """
    marks = [(parameter, parameter.requires_grad) for parameter in policy.parameters()]

    def switch(names: Sequence[str]) -> None:
        activate(policy, names, train=False)
        for parameter, mark in marks:
            parameter.requires_grad_(mark)

    switch(active)
    try:
        yield
    finally:
        switch(stack_of(policy))


def add_value_adapter(policy: Any, *, seed: int, step: str) -> None:
    """Put a fresh LoRA adapter of the policy's own shape beside the policy's, inactive, trainable."""
    shape = copy.deepcopy(policy.peft_config[TOP])
    shape.modules_to_save, shape.init_lora_weights, shape.inference_mode = None, True, False
    marks = {name: parameter.requires_grad for name, parameter in policy.named_parameters()}
    with seeded(seed, f"{step} value"), warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is dep", FutureWarning)
        policy.add_adapter(ADAPTER, shape)
    activate(policy, stack_of(policy), train=False)
    for name, parameter in policy.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(marks.get(name, belongs_to(name, ADAPTER)))
