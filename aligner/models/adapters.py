"""Attach, activate, copy and merge LoRA adapters, under fixed names."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from aligner.errors import ModelError
from aligner.models.options import Adapter
from aligner.models.precision import device

TOP = "default"
"""Name of the topmost adapter, which is trained. TRL's trainers expect this name."""
REFERENCE = "aligner_reference"
"""Name of a frozen copy of the topmost adapter, for the reference policy."""
_PART = r"\.(?:lora_\w+|modules_to_save)\."


def adapter_names(count: int) -> tuple[str, ...]:
    """Return the names of a stack of `count` adapters, lowest first.

    >>> adapter_names(3)
    ('below0', 'below1', 'default')
    """
    return (*(f"below{number}" for number in range(count - 1)), TOP) if count else ()


def adapter_stack(model: PreTrainedModel | PeftModel) -> tuple[str, ...]:
    """Return the names of the adapters of `model`, lowest first, without the reference's copy."""
    if not isinstance(model, PeftModel):
        return ()
    kept = [name for name in model.peft_config if name == TOP or re.fullmatch(r"below\d+", name)]
    return adapter_names(len(kept))


def is_reward(model: PreTrainedModel | PeftModel) -> bool:
    """Return True if `model` is a sequence classifier, as reward models are."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return type(whole).__name__.endswith("ForSequenceClassification")


def activate(model: PeftModel, names: Sequence[str], *, train: bool) -> None:
    """Activate exactly `names`, and train the topmost adapter or nothing.

    peft's own methods enable gradients of every adapter that they activate.
    """
    tuner: Any = model.base_model
    if names:
        tuner.enable_adapter_layers()
        tuner.set_adapter(list(names), inference_mode=True)
    else:
        tuner.disable_adapter_layers()
    model.active_adapter = TOP
    top = re.compile(rf"{_PART}{TOP}(?:\.|$)")
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(train and top.search(name) is not None)


def belongs_to(parameter: str, adapter: str) -> bool:
    """Return True if the parameter of this name is part of `adapter`."""
    return re.search(rf"{_PART}{adapter}(?:\.|$)", parameter) is not None


@contextmanager
def seeded(seed: int, step: str) -> Iterator[None]:
    """Seed the random numbers of the body by `seed` and `step`, and restore the generators after it."""
    number = int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:4], "big")
    accelerator = device()
    devices = [accelerator] if accelerator.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(number)
        yield


def lora_config(adapter: Adapter, model: nn.Module, *, reward: bool) -> LoraConfig:
    """Return peft's config for `adapter`; the head of a reward model is trained with it."""
    head = _head_names(model) if reward else ()
    conv = any(isinstance(module, Conv1D) for module in model.modules())
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if reward else TaskType.CAUSAL_LM,
        r=adapter.r,
        lora_alpha=adapter.lora_alpha,  # type: ignore[arg-type]  # peft only divides it
        lora_dropout=adapter.lora_dropout,
        target_modules=adapter.target_modules
        if adapter.target_modules == "all-linear"
        else [*adapter.target_modules],
        modules_to_save=sorted({*adapter.modules_to_save, *head}) or None,
        use_rslora=adapter.method == "rslora",
        use_dora=adapter.method == "dora",
        fan_in_fan_out=conv,
    )


def attach_config(model: PreTrainedModel | PeftModel, config: LoraConfig, name: str) -> PeftModel:
    """Add the adapter of `config` to `model` as `name`, with peft's initial weights."""
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings(
            "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
        )
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
        try:
            if isinstance(model, PeftModel):
                model.add_adapter(name, config)
                wrapped = model
            else:
                wrapped = get_peft_model(model, config, adapter_name=name)
        except ValueError as error:
            if "ParamWrapper" not in str(error):
                raise
            raise _expert_adapter() from error
    # In a mixture of experts peft targets fused tensors, which it cannot stack or copy.
    if config.target_parameters:
        raise _expert_adapter()
    return wrapped


def _expert_adapter() -> ModelError:
    return ModelError(
        "adapters on the experts of a mixture-of-experts model are not supported",
        hint="name other modules, such as `target_modules: [q_proj, k_proj, v_proj, o_proj]`",
    )


def attach_fresh(
    model: PreTrainedModel | PeftModel, adapter: Adapter, *, seed: int, step: str
) -> PeftModel:
    """Add a new adapter on top whose update is zero; adapters below stay active and frozen."""
    if isinstance(model, PeftModel):
        count = len(adapter_stack(model))
        _rename_top(model, f"below{count - 1}")
    reward = is_reward(model)
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    config = lora_config(adapter, whole, reward=reward)
    with seeded(seed, step):
        model = attach_config(model, config, TOP)
    activate(model, adapter_stack(model), train=True)
    return model


@contextmanager
def preserve_requires_grad(model: nn.Module) -> Iterator[None]:
    """Restore `requires_grad` after the body; parameters that the body adds get False."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(before.get(name, False))


def copy_top(model: PeftModel, name: str) -> None:
    """Add a bit-identical copy of the topmost adapter as `name`."""
    with seeded(0, name):
        attach_config(model, copy_config(model.peft_config[TOP]), name)
    state = get_peft_model_state_dict(model, adapter_name=TOP, save_embedding_layers=False)
    set_peft_model_state_dict(model, {k: v.detach().clone() for k, v in state.items()}, name)
    parameters = dict(model.named_parameters())
    for top in [key for key in parameters if belongs_to(key, TOP)]:
        twin = re.sub(rf"({_PART}){TOP}(\.|$)", rf"\g<1>{name}\g<2>", top)
        assert torch.equal(parameters[top], parameters[twin]), f"{twin} is not a copy of {top}"


def merge_stack(model: PeftModel) -> PreTrainedModel:
    """Merge all adapters into the weights, lowest first, and make all weights trainable."""
    merged: PreTrainedModel = model.merge_and_unload(
        safe_merge=True, adapter_names=list(adapter_stack(model))
    )
    # peft leaves the merged weights frozen.
    return merged.requires_grad_(True)


def _rename_top(model: PeftModel, name: str) -> None:
    copy_top(model, name)
    activate(model, [name], train=False)
    model.delete_adapter(TOP)


def copy_config(config: Any) -> LoraConfig:
    """Copy a config: peft modifies the ones that it receives."""
    raw = {field.name: getattr(config, field.name) for field in fields(config) if field.init}
    return LoraConfig(**raw)


def _head_names(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        name for name in ("score", "classifier", "classification_head") if hasattr(model, name)
    )
