"""Value functions: a head on the policy's trunk, a separate adapter, or a separate model.

Shapes: K states of B rows, H hidden width.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from aligner.kit.work import ResponseBatch, SideAdapter, ValueFunction, reward_head

ValueKind = Literal["head", "adapter", "model"]
ADAPTER = "value"
"""Name of the value adapter in the policy."""


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

    def __init__(self, adapter: SideAdapter, trunk: Any, width: int) -> None:
        super().__init__()
        # In a tuple, so that the policy's weights are not registered as the value function's.
        self._shared = (adapter, trunk)
        self.head = _zero_head(width)

    def forward(self, batch: ResponseBatch, hidden_KH: Tensor) -> Tensor:
        del hidden_KH
        adapter, trunk = self._shared
        with adapter.active():
            hidden_BTH = trunk(input_ids=batch.tokens_BT, use_cache=False).last_hidden_state
        return _apply_head(self.head, batch.states(hidden_BTH))

    def trained(self) -> dict[str, nn.Parameter]:
        head = {f"head.{name}": p for name, p in self.head.named_parameters()}
        return self._shared[0].parameters() | head


class ValueModel(PPOValue):
    """A sequence-classification model with one label, read at every state; a second backbone."""

    kind = "model"
    learning_rate = 1e-5

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.requires_grad_(True).eval()
        self._head = reward_head(model)

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
