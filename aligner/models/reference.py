"""Reference models: by default the frozen policy that a step received."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from aligner.models.adapters import (
    REFERENCE,
    activate,
    adapter_stack,
    copy_top,
    preserve_requires_grad,
)
from aligner.models.load import load_model
from aligner.models.options import AdapterPlan, Attention, Precision
from aligner.models.policy import PreparedModel
from aligner.state import Artifact, ModelCache


@dataclass(frozen=True)
class Reference:
    """Reference model, as a frozen copy or as the policy with other adapters active.

    `with reference.active() as model:` gives the module to run; after the body the policy is unchanged.
    Call `close` at the end of the step.
    """

    policy: PreTrainedModel | PeftModel
    copy: PreTrainedModel | PeftModel | None = None
    """Separate model, if the reference is one."""
    adapters: tuple[str, ...] = ()
    """Otherwise: adapters of the policy that are active in the reference."""

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel | PeftModel]:
        """Yield the module to run, in eval mode and without gradients."""
        with torch.no_grad():
            if self.copy is not None:
                yield self.copy
            else:
                assert isinstance(self.policy, PeftModel)
                with _only(self.policy, self.adapters):
                    yield self.policy

    def close(self) -> None:
        """Remove the reference's adapter from the policy."""
        if isinstance(self.policy, PeftModel) and REFERENCE in self.policy.peft_config:
            with preserve_requires_grad(self.policy):
                activate(self.policy, adapter_stack(self.policy), train=False)
                self.policy.delete_adapter(REFERENCE)
                activate(self.policy, adapter_stack(self.policy), train=False)


def reference_of(prepared: PreparedModel) -> Reference:
    """Return the incoming policy as reference; call this before training.

    If full weights are trained, it is a frozen copy. A new adapter is inactive in it, with those below
    active. An adapter that is trained further is copied.
    """
    model, how = prepared.model, prepared.adapter_plan
    if how in ("full", "merge"):
        return Reference(model, copy=frozen_copy(model))
    assert isinstance(model, PeftModel)
    below = adapter_stack(model)[:-1]
    if how != "continue":
        return Reference(model, adapters=below)
    with preserve_requires_grad(model):
        copy_top(model, REFERENCE)
        activate(model, adapter_stack(model), train=False)
    return Reference(model, adapters=(*below, REFERENCE))


def reference_from(
    artifact: Artifact,
    model_cache: ModelCache,
    policy: PreTrainedModel | PeftModel,
    *,
    precision: Precision = "auto",
    attn_implementation: Attention = "auto",
) -> Reference:
    """Load the model in the reference slot as reference."""
    model = load_model(
        artifact,
        model_cache,
        precision=precision,
        attn_implementation=attn_implementation,
    )
    return Reference(policy, copy=model)


def frozen_copy(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """Copy a restored model; the copy shares no tensors and is frozen."""
    # A patched forward is bound to the original: the copy would compute with the original's weights.
    patched = [name for name, module in model.named_modules() if "forward" in module.__dict__]
    assert not patched, (
        f"restore the model before it is copied: {patched[0]!r} has a patched forward"
    )
    return copy.deepcopy(model).eval().requires_grad_(False)


def describe_reference(how: AdapterPlan, policy_by: str, *, slot_by: str | None = None) -> str:
    """Describe the reference for the plan table.

    >>> describe_reference("fresh", "sft")
    "sft's policy (new adapter off)"
    """
    if slot_by is not None:
        return f"{slot_by}'s reference"
    by = f"{policy_by}'s policy"
    if how in ("full", "merge"):
        return f"{by} (frozen copy)"
    return f"{by} (frozen copy of its adapter)" if how == "continue" else f"{by} (new adapter off)"


@contextmanager
def _only(model: PeftModel, names: tuple[str, ...]) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    with preserve_requires_grad(model):
        try:
            activate(model, names, train=False)
            model.eval()
            yield
        finally:
            activate(model, adapter_stack(model), train=False)
            for module in training:
                module.training = True
