"""Value functions: a head on the policy's trunk, a separate adapter, or a separate model.

Shapes: K states of B rows, H hidden width.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from aligner.models.adapters import TOP, activate, belongs_to, seeded, stack_of
from aligner.models.reward import head_of
from aligner.rl.forward import ResponseBatch
from aligner.rl.value import ValueFunction

ValueKind = Literal["head", "adapter", "model"]
ADAPTER = "value"


class PPOValue(ValueFunction):
    """A value function of one of the three kinds."""

    kind: ClassVar[ValueKind]
    learning_rate = 1e-4


class ValueHead(PPOValue):
    """A further output of the policy: no memory and no extra pass, but trunk weights are shared."""

    kind = "head"
    shares_trunk = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = _zero_head(width)

    def forward(self, batch: ResponseBatch, hidden_KH: Tensor) -> Tensor:
        del batch
        return _apply_head(self.head, hidden_KH)

    def trained(self) -> dict[str, nn.Parameter]:
        return {f"head.{name}": p for name, p in self.head.named_parameters()}


class ValueAdapter(PPOValue):
    """An adapter and a head on the policy's frozen weights: one extra pass, nothing copied."""

    kind = "adapter"

    def __init__(self, policy: Any, trunk: Any, width: int) -> None:
        """Use the adapter that `add_value_adapter` has added to `policy`."""
        super().__init__()
        # In a tuple, so that the policy's weights are not registered as the value function's.
        self._shared = (policy, trunk)
        self._names = (*stack_of(policy)[:-1], ADAPTER)
        self.head = _zero_head(width)

    def forward(self, batch: ResponseBatch, hidden_KH: Tensor) -> Tensor:
        del hidden_KH
        policy, trunk = self._shared
        with active_adapters(policy, self._names):
            hidden_BTH = trunk(input_ids=batch.tokens_BT, use_cache=False).last_hidden_state
        return _apply_head(self.head, batch.states(hidden_BTH))

    def trained(self) -> dict[str, nn.Parameter]:
        own = {
            name: parameter
            for name, parameter in self._shared[0].named_parameters()
            if belongs_to(name, ADAPTER)
        }
        return own | {f"head.{name}": p for name, p in self.head.named_parameters()}


class ValueModel(PPOValue):
    """A sequence-classification model with one label, read at every state; a second backbone."""

    kind = "model"
    learning_rate = 1e-5

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.requires_grad_(True).eval()
        self._head = head_of(model)

    def forward(self, batch: ResponseBatch, hidden_KH: Tensor) -> Tensor:
        del hidden_KH
        trunk = self.model.base_model
        hidden_BTH = trunk(input_ids=batch.tokens_BT, use_cache=False).last_hidden_state
        values_K1: Tensor = self._head(batch.states(hidden_BTH)).float()
        return values_K1[:, 0]

    def trained(self) -> dict[str, nn.Parameter]:
        return {f"model.{name}": p for name, p in self.model.named_parameters()}


def _zero_head(width: int) -> nn.Linear:
    """Make a head whose estimate is 0 everywhere: the first advantages are the rewards themselves."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _apply_head(head: nn.Linear, hidden_KH: Tensor) -> Tensor:
    with torch.autocast(hidden_KH.device.type, enabled=False):
        values_K1: Tensor = head(hidden_KH.float())
    return values_K1[:, 0]


@contextmanager
def active_adapters(policy: Any, names: Sequence[str]) -> Iterator[None]:
    """Activate other adapters within the `with` block; `requires_grad` stays as it is.

    Switching adapters changes `requires_grad`, so it is restored after each switch: otherwise a
    gradient whose backward pass is still to come would be lost.
    """
    marks = [(parameter, parameter.requires_grad) for parameter in policy.parameters()]

    def switch(adapters: Sequence[str]) -> None:
        activate(policy, adapters, train=False)
        for parameter, mark in marks:
            parameter.requires_grad_(mark)

    switch(names)
    try:
        yield
    finally:
        switch(stack_of(policy))


def add_value_adapter(policy: Any, *, seed: int, step: str) -> None:
    """Add a new, inactive, trainable LoRA adapter with the settings of the policy's own."""
    settings = copy.deepcopy(policy.peft_config[TOP])
    settings.modules_to_save, settings.init_lora_weights = None, True
    settings.inference_mode = False
    marks = {name: parameter.requires_grad for name, parameter in policy.named_parameters()}
    with seeded(seed, f"{step} value"), warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is dep", FutureWarning)
        policy.add_adapter(ADAPTER, settings)
    activate(policy, stack_of(policy), train=False)
    for name, parameter in policy.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(marks.get(name, belongs_to(name, ADAPTER)))
