"""The policy as a step found it, frozen: the reference, right by construction."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from aligner.models.adapters import REFERENCE, activate, copy_top, gradients_kept, stack_of
from aligner.models.load import load_model
from aligner.models.options import AdapterPlan, Attention, Precision
from aligner.models.policy import Prepared
from aligner.state import Artifact, ModelCache


@dataclass(frozen=True)
class Reference:
    """A model that computes as the reference does, whenever it is asked for.

    `with reference.active() as model:` gives the module to run: a frozen copy, or the very policy
    with its new adapter off. Outside, the policy is as it was. `close` when the step is over.
    """

    policy: PreTrainedModel | PeftModel
    copy: PreTrainedModel | PeftModel | None = None
    """A model of its own, where the reference is one."""
    adapters: tuple[str, ...] = ()
    """Else: the adapters of the policy that are on while it plays the reference."""

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel | PeftModel]:
        """The module to run, in eval mode and without gradients."""
        with torch.no_grad():
            if self.copy is not None:
                yield self.copy
            else:
                assert isinstance(self.policy, PeftModel)
                with _only(self.policy, self.adapters):
                    yield self.policy

    def close(self) -> None:
        """Take whatever the reference needed off the policy again."""
        if isinstance(self.policy, PeftModel) and REFERENCE in self.policy.peft_config:
            with gradients_kept(self.policy):
                activate(self.policy, stack_of(self.policy), train=False)
                self.policy.delete_adapter(REFERENCE)
                activate(self.policy, stack_of(self.policy), train=False)


def reference_of(prepared: Prepared) -> Reference:
    """The incoming policy of the step for which `prepared` was made; call it before training.

    Whole weights that are trained need a frozen copy. A new adapter is switched off, with those
    below it on. An adapter that is trained further is copied, under a name of ours.
    """
    model, how = prepared.model, prepared.adapter_plan
    if how in ("full", "merge"):
        return Reference(model, copy=frozen_copy(model))
    assert isinstance(model, PeftModel)
    below = stack_of(model)[:-1]
    if how != "continue":
        return Reference(model, adapters=below)
    with gradients_kept(model):
        copy_top(model, REFERENCE)
        activate(model, stack_of(model), train=False)
    return Reference(model, adapters=(*below, REFERENCE))


def reference_from(
    artifact: Artifact,
    model_cache: ModelCache,
    policy: PreTrainedModel | PeftModel,
    *,
    precision: Precision = "auto",
    attn_implementation: Attention = "auto",
) -> Reference:
    """Another model as the reference: what the chain put into the slot of that name."""
    model = load_model(
        artifact,
        model_cache,
        precision=precision,
        attn_implementation=attn_implementation,
    )
    return Reference(policy, copy=model)


def frozen_copy(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """A copy of a clean model that shares nothing with it and is never trained."""
    # A trainer's patched forward is bound to the original: the copy would run the original's weights.
    patched = [name for name, module in model.named_modules() if "forward" in module.__dict__]
    assert not patched, f"clean the model before it is copied: {patched[0]!r} has a patched forward"
    return copy.deepcopy(model).eval().requires_grad_(False)


def reference_text(how: AdapterPlan, policy_by: str, *, slot_by: str | None = None) -> str:
    """Which model is the reference, for the plan table.

    >>> reference_text("fresh", "sft")
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
    with gradients_kept(model):
        try:
            activate(model, names, train=False)
            model.eval()
            yield
        finally:
            activate(model, stack_of(model), train=False)
            for module in training:
                module.training = True
