"""A second adapter on a policy's frozen weights, for another model that shares them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from aligner.models.adapters import TOP, activate, adapter_stack, belongs_to, seeded


class SideAdapter:
    """A trained LoRA adapter beside the policy's own, inactive outside `active()`."""

    def __init__(self, policy: Any, name: str) -> None:
        """Use the adapter that `add` has put on `policy`."""
        self._policy, self._name = policy, name
        self._stack = (*adapter_stack(policy)[:-1], name)

    @classmethod
    def add(cls, policy: Any, name: str, *, seed: int, label: str) -> SideAdapter:
        """Add a new adapter with the settings of the policy's own.

        Args:
            policy: A PeftModel whose topmost adapter is trained.
            name: Name of the adapter in the model.
            seed: Seed of the run.
            label: Decides the new weights, with the seed.
        """
        settings = copy.deepcopy(policy.peft_config[TOP])
        settings.modules_to_save, settings.init_lora_weights = None, True
        settings.inference_mode = False
        marks = {key: parameter.requires_grad for key, parameter in policy.named_parameters()}
        with seeded(seed, label), warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 for a property under its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is dep", FutureWarning)
            policy.add_adapter(name, settings)
        activate(policy, adapter_stack(policy), train=False)
        for key, parameter in policy.named_parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(marks.get(key, belongs_to(key, name)))
        return cls(policy, name)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the adapter's parameters by their names in the policy."""
        return {
            key: parameter
            for key, parameter in self._policy.named_parameters()
            if belongs_to(key, self._name)
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute with this adapter in place of the policy's topmost one.

        Switching adapters changes `requires_grad`, so it is restored after each switch: otherwise a
        gradient whose backward pass is still to come would be lost.
        """
        marks = [(parameter, parameter.requires_grad) for parameter in self._policy.parameters()]

        def switch(names: Sequence[str]) -> None:
            activate(self._policy, names, train=False)
            for parameter, mark in marks:
                parameter.requires_grad_(mark)

        switch(self._stack)
        try:
            yield
        finally:
            switch(adapter_stack(self._policy))
