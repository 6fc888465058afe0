"""The value function in its slot: made from it, continued from it, saved to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aligner import Artifact, ModelCache, ModelState, Slot, StepContext
from aligner.errors import ModelError
from aligner.models.adapters import merge_stack
from aligner.models.files import hash_folder
from aligner.models.language_model import LanguageModel
from aligner.models.load import load_as, load_model
from aligner.models.options import adapter_plan
from aligner.models.policy import Prepared
from aligner.models.reward import head_of, make_reward
from aligner.models.save import save_model
from aligner.rl.algorithm import ValueFactory
from aligner.rl.value import ValueFunction
from aligner.run.durable import write_text
from aligner.run.processes import write_once
from aligner_ppo.options import PPOOptions
from aligner_ppo.value import (
    PPOValue,
    ValueAdapter,
    ValueHead,
    ValueKind,
    ValueModel,
    add_value_adapter,
)

WEIGHTS, ABOUT = "value.safetensors", "value.json"


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
    """Prepare a step's value function; a separate model is made before the policy is changed."""
    slot = state.value if options.value_from == "auto" else None
    how = adapter_plan(state.get("policy").adapters, options)
    kind = value_kind(
        options,
        lora=how not in ("full", "merge"),
        slot=None if slot is None else saved_kind(slot),
    )
    model = _value_model(options, state, context, slot, pad=pad) if kind == "model" else None

    def make(prepared: Prepared, parts: LanguageModel) -> PPOValue:
        value = _make(kind, prepared.model, parts, model, seed=context.seed)
        if slot is not None and not isinstance(value, ValueModel):
            load_beside(value, slot, policy=state.get("policy"))
        if options.value_learning_rate is not None:
            value.learning_rate = options.value_learning_rate
        return value

    return make


def _make(
    kind: ValueKind, policy: Any, parts: LanguageModel, model: Any | None, *, seed: int
) -> PPOValue:
    if kind == "model":
        return ValueModel(model)
    width = int(parts.trunk.config.get_text_config().hidden_size)
    if kind == "head":
        return ValueHead(width)
    add_value_adapter(policy, seed=seed, step="ppo")
    return ValueAdapter(policy, parts.trunk, width)


def _value_model(
    options: PPOOptions,
    state: ModelState,
    context: StepContext,
    slot: Artifact | None,
    *,
    pad: int | None,
) -> Any:
    """Load or make the model of a `ValueModel`."""
    if slot is not None:
        if saved_kind(slot) != "model":
            raise _other_kind(saved_kind(slot), "model")
        return load_model(
            slot,
            context.model_cache,
            precision=options.precision,
            attn_implementation=options.attn_implementation,
            trainable=True,
            reward=True,
        )
    if options.value_from == "reward":
        model = load_as(
            state.get("reward"),
            ModelCache(),
            dtype=torch.float32,
            attn_implementation=options.attn_implementation,
            reward=True,
        )
        return merge_stack(model) if isinstance(model, PeftModel) else model
    made = make_reward(
        state.get("policy"),
        context.model_cache,
        seed=context.seed,
        pad=0 if pad is None else pad,
        attn_implementation=options.attn_implementation,
    )
    for parameter in head_of(made).parameters():
        nn.init.zeros_(parameter)
    return made


def save_value(
    value: ValueFunction, context: StepContext
) -> Callable[[Artifact], Mapping[Slot, Artifact]]:
    """Copy the trained weights, and return the function that saves them for their slot."""
    folder = context.folder / "value"
    if isinstance(value, ValueModel):
        model = value.model

        def save(policy: Artifact) -> Mapping[Slot, Artifact]:
            cache = context.model_cache
            return {"value": save_model(model, folder, model_cache=cache, made_by=context.step)}

        return save
    assert isinstance(value, PPOValue)
    kind = value.kind
    # Saving the policy removes other adapters from it, the value function's among them.
    tensors = {name: p.detach().cpu().clone() for name, p in value.trained().items()}

    def save_with(policy: Artifact) -> Mapping[Slot, Artifact]:
        def write() -> Artifact:
            return save_beside(tensors, folder, kind=kind, policy=policy)

        return {"value": write_once(folder, write)}

    return save_with


def save_beside(
    tensors: dict[str, Tensor], folder: Path, *, kind: ValueKind, policy: Artifact
) -> Artifact:
    """Write a value head or adapter, with the hash of the policy to which it belongs."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    about = {"kind": kind, "policy": policy.hash}
    write_text(folder / ABOUT, json.dumps(about, indent=2) + "\n")
    return Artifact(path=str(folder), hash=hash_folder(folder))


def saved_kind(artifact: Artifact) -> ValueKind:
    """Return the kind of a saved value function."""
    about = Path(artifact.path) / ABOUT
    if not about.is_file():
        return "model"
    return json.loads(about.read_text(encoding="utf-8"))["kind"]  # type: ignore[no-any-return]


def load_beside(value: PPOValue, artifact: Artifact, *, policy: Artifact) -> None:
    """Load saved weights into a value head or adapter.

    Raises:
        ModelError: they are of another kind, or were trained with another policy.
    """
    folder = Path(artifact.path)
    kind = saved_kind(artifact)
    hint = "use `value_from: policy` to start a new one"
    if kind != value.kind:
        raise _other_kind(kind, value.kind)
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if about["policy"] != policy.hash:
        raise ModelError(f"the value {kind} in {folder} was trained with another policy", hint=hint)
    saved, own = load_file(folder / WEIGHTS), value.trained()
    if saved.keys() != own.keys() or any(saved[n].shape != own[n].shape for n in own):
        raise ModelError(f"the value {kind} in {folder} has another shape", hint=hint)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def _other_kind(found: ValueKind, used: ValueKind) -> ModelError:
    return ModelError(
        f"the value slot contains a value {found}, and this step uses a value {used}",
        hint=f"use `value: {found}`, or `value_from: policy` to start a new one",
    )
