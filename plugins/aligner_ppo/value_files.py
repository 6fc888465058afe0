"""Make the value function a step asks for, from where it asks, and save what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aligner.errors import ModelError
from aligner.models.adapters import merge_stack
from aligner.models.files import hash_folder
from aligner.models.load import load_as, load_model
from aligner.models.reward import head_of, make_reward
from aligner.run.durable import write_text
from aligner.stage import StepContext
from aligner.state import Artifact, ModelCache, ModelState
from aligner_ppo.forward import LanguageModel
from aligner_ppo.options import PPOOptions
from aligner_ppo.value import (
    HeadOnTrunk,
    Kind,
    OwnAdapter,
    OwnModel,
    ValueFunction,
    add_value_adapter,
)

WEIGHTS, ABOUT = "value.safetensors", "value.json"


def kind_for(options: PPOOptions, *, lora: bool, slot: Kind | None) -> Kind:
    """Which kind of value function a step uses.

    Args:
        config: Its options.
        lora: Whether the policy is trained through an adapter.
        slot: The kind that lies in the value slot, where that is to be continued.
    """
    if options.value != "auto":
        return options.value
    if slot is not None:
        return slot
    if not lora or options.value_from == "reward":
        return "model"
    # Activations recomputed in the backward pass would be those of the policy's adapter.
    return "head" if options.activation_checkpointing else "adapter"


def slot_of(options: PPOOptions, artifact: Artifact | None) -> Artifact | None:
    """The value slot's content, where the step continues it."""
    return artifact if options.value_from == "auto" else None


def value_model(
    options: PPOOptions, state: ModelState, context: StepContext, *, kind: Kind, pad: int | None
) -> Any | None:
    """The model of an `OwnModel`, to be made while the policy is still as it came in; else None."""
    if kind != "model":
        return None
    slot = slot_of(options, state.value)
    if slot is not None:
        if kind_of(slot) != "model":
            raise _other_kind(kind_of(slot), kind, context.where)
        return load_model(
            slot,
            context.model_cache,
            precision=options.precision,
            attn_implementation=options.attn_implementation,
            trainable=True,
            reward=True,
            where=context.where,
        )
    if options.value_from == "reward":
        model = load_as(
            state.get("reward"),
            ModelCache(),
            dtype=torch.float32,
            attn_implementation=options.attn_implementation,
            reward=True,
            where=context.where,
        )
        return merge_stack(model) if isinstance(model, PeftModel) else model
    made = make_reward(
        state.get("policy"),
        context.model_cache,
        seed=context.seed,
        pad=0 if pad is None else pad,
        attn_implementation=options.attn_implementation,
        where=context.where,
    )
    for parameter in head_of(made).parameters():
        nn.init.zeros_(parameter)
    return made


def value_function(
    options: PPOOptions,
    policy: Any,
    parts: LanguageModel,
    model: Any | None,
    *,
    kind: Kind,
    state: ModelState,
    context: StepContext,
) -> ValueFunction:
    """The value function of a step, filled from the value slot where it continues that."""
    if model is not None:
        return OwnModel(model)
    width = int(parts.trunk.config.get_text_config().hidden_size)
    value: HeadOnTrunk | OwnAdapter
    if kind == "adapter":
        add_value_adapter(policy, seed=context.seed, step="ppo")
        value = OwnAdapter(policy, parts.trunk, width)
    else:
        value = HeadOnTrunk(width)
    slot = slot_of(options, state.value)
    if slot is not None:
        fill_beside(value, slot, policy=state.get("policy"), where=context.where)
    return value


def weights_of(value: ValueFunction) -> dict[str, Tensor]:
    """Copies of what was trained for values, to be saved after the policy has been cleaned."""
    return {name: p.detach().cpu().clone() for name, p in value.trained().items()}


def save_beside(
    tensors: dict[str, Tensor], folder: Path, *, kind: Kind, policy: Artifact
) -> Artifact:
    """Write a value function that is no model of its own, and which policy it belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    about = {"kind": kind, "policy": policy.hash}
    write_text(folder / ABOUT, json.dumps(about, indent=2) + "\n")
    return Artifact(path=str(folder), hash=hash_folder(folder))


def kind_of(artifact: Artifact) -> Kind:
    """What an earlier step left in the value slot."""
    about = Path(artifact.path) / ABOUT
    if not about.is_file():
        return "model"
    return json.loads(about.read_text(encoding="utf-8"))["kind"]  # type: ignore[no-any-return]


def fill_beside(
    value: HeadOnTrunk | OwnAdapter, artifact: Artifact, *, policy: Artifact, where: str
) -> None:
    """Put saved weights into a value function that is no model of its own.

    Raises:
        ModelError: it is of another kind, or was trained beside another policy.
    """
    folder = Path(artifact.path)
    kind = kind_of(artifact)
    hint = "say `value_from: policy` to start a new one"
    if kind != value.kind:
        raise _other_kind(kind, value.kind, where)
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if about["policy"] != policy.hash:
        raise ModelError(
            f"the value {kind} in {folder} was trained beside another policy",
            where=where,
            hint=hint,
        )
    saved, own = load_file(folder / WEIGHTS), value.trained()
    if saved.keys() != own.keys() or any(saved[n].shape != own[n].shape for n in own):
        raise ModelError(f"the value {kind} in {folder} has another shape", where=where, hint=hint)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def _other_kind(found: Kind, used: Kind, where: str) -> ModelError:
    return ModelError(
        f"the value slot holds a value {found}, and this step uses a value {used}",
        where=where,
        hint=f"say `value: {found}`, or `value_from: policy` to start a new one",
    )
