"""The value function in its slot: made, continued from an earlier step, and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from aligner import Artifact, ModelState, Slot, StepContext
from aligner.kit.declare import ModelError
from aligner.kit.work import (
    LanguageModel,
    PreparedModel,
    SideAdapter,
    ValueFactory,
    ValueFunction,
    adapter_plan,
    load_tensors,
    load_value_model,
    read_about,
    save_model,
    save_tensors,
)
from aligner_ppo.options import PPOOptions
from aligner_ppo.value import ADAPTER, PPOValue, ValueAdapter, ValueHead, ValueKind, ValueModel

NAME = "value"


def value_kind(options: PPOOptions, *, lora: bool, slot: ValueKind | None) -> ValueKind:
    """Return the kind of value function of a step.

    Args:
        options: Options of the step.
        lora: True if the policy is trained through an adapter.
        slot: Kind in the value slot, where the step continues that.
    """
    if options.value != "auto":
        return options.value
    if slot is not None:
        return slot
    if not lora or options.value_from == "reward":
        return "model"
    # Activations recomputed in the backward pass would be those of the policy's adapter.
    return "head" if options.activation_checkpointing else "adapter"


def value_factory(
    options: PPOOptions, state: ModelState, context: StepContext, *, pad: int | None
) -> ValueFactory:
    """Prepare a step's value function; a separate model is made before the policy is loaded."""
    slot = state.value if options.value_from == "auto" else None
    found = None if slot is None else saved_kind(slot)
    how = adapter_plan(state.get("policy").adapters, options)
    kind = value_kind(options, lora=how not in ("full", "merge"), slot=found)
    if found is not None and found != kind:
        raise ModelError(
            f"the value slot contains a value {found}, and this step uses a value {kind}",
            hint=f"use `value: {found}`, or `value_from: policy` to start a new one",
        )
    model: Any = None
    if kind == "model":
        source: Literal["value", "reward", "policy"] = "value"
        if slot is None:
            source = "reward" if options.value_from == "reward" else "policy"
        model = load_value_model(source, options, state, context, pad=0 if pad is None else pad)

    def make(prepared: PreparedModel, parts: LanguageModel) -> PPOValue:
        value = _make(kind, prepared.model, parts, model, seed=context.seed)
        if slot is not None and kind != "model":
            _restore(value, slot, policy=state.get("policy"))
        if options.value_learning_rate is not None:
            value.learning_rate = options.value_learning_rate
        return value

    return make


def _make(kind: ValueKind, policy: Any, parts: LanguageModel, model: Any, *, seed: int) -> PPOValue:
    if kind == "model":
        return ValueModel(model)
    width = int(parts.trunk.config.get_text_config().hidden_size)
    if kind == "head":
        return ValueHead(width)
    adapter = SideAdapter.add(policy, ADAPTER, seed=seed, label="ppo value")
    return ValueAdapter(adapter, parts.trunk, width)


def value_saver(
    value: ValueFunction, context: StepContext
) -> Callable[[Artifact], Mapping[Slot, Artifact]]:
    """Copy the trained weights, and return the function that saves them for their slot."""
    folder, cache = context.folder / "value", context.model_cache
    assert isinstance(value, PPOValue)
    # Saving the policy removes other adapters from it, the value function's among them.
    tensors = {name: p.detach().cpu().clone() for name, p in value.trained().items()}

    def save(policy: Artifact) -> Mapping[Slot, Artifact]:
        if isinstance(value, ValueModel):
            model = value.model
            return {"value": save_model(model, folder, model_cache=cache, made_by=context.step)}
        about = {"kind": value.kind, "policy": policy.hash}
        return {"value": save_tensors(folder, NAME, tensors, about)}

    return save


def saved_kind(artifact: Artifact) -> ValueKind:
    """Return the kind of a saved value function."""
    about = read_about(artifact, NAME)
    kind: ValueKind = "model" if about is None else about["kind"]
    return kind


def _restore(value: PPOValue, artifact: Artifact, *, policy: Artifact) -> None:
    """Load saved weights into a value head or adapter.

    Raises:
        ModelError: they were trained with another policy.
    """
    about, what = read_about(artifact, NAME), f"the value {value.kind} in {artifact.path}"
    assert about is not None, "a value model is not restored"
    hint = "use `value_from: policy` to start a new one"
    if about["policy"] != policy.hash:
        raise ModelError(f"{what} was trained with another policy", hint=hint)
    saved, own = load_tensors(artifact, NAME), value.trained()
    if saved.keys() != own.keys() or any(saved[n].shape != own[n].shape for n in own):
        raise ModelError(f"{what} has another shape", hint=hint)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])
