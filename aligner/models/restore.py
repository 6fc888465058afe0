"""Restore a model after training to the state of a fresh load."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from aligner.models.adapters import activate, adapter_stack
from aligner.models.meta_model import meta_model

_SETTINGS = "_aligner_settings"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_LEFT_BEHIND = (
    "forward",
    "_original_forward",
    "_is_accelerate_prepared",
    "_require_grads_hook",
    "_require_grads_hooks",
    "_gradient_checkpointing_func",
    "model_tags",
)


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a model that trainers change, as they were when it was loaded."""

    use_cache: bool
    token_ids: tuple[Any, Any, Any]
    """Ids of the bos, eos and pad tokens in the config."""
    generation: Any
    """Copy of the generation config."""
    trained: frozenset[str]
    """Names of parameters that require a gradient, in the model without peft's wrapper."""
    quantize: str | None = None


def snapshot_settings(model: PreTrainedModel | PeftModel, *, quantize: str | None = None) -> None:
    """Store the settings of `model` for `restore_model`."""
    whole = base_model(model)
    config = whole.config
    settings = ModelSettings(
        bool(getattr(config, "use_cache", True)),
        (config.bos_token_id, config.eos_token_id, config.pad_token_id),
        copy.deepcopy(getattr(whole, "generation_config", None)),
        frozenset(name for name, p in whole.named_parameters() if p.requires_grad),
        quantize,
    )
    setattr(whole, _SETTINGS, settings)


def settings_of(model: PreTrainedModel | PeftModel) -> ModelSettings | None:
    """Return the settings that `snapshot_settings` stored."""
    found = base_model(model).__dict__.get(_SETTINGS)
    return found if isinstance(found, ModelSettings) else None


def base_model(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the transformers model without peft's wrapper."""
    whole: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(whole, PreTrainedModel)
    return whole


def restore_model(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """Restore `model` in place to the state of a fresh load, except for its weights; return it.

    Removes patched forwards, accelerate's marks, hooks, gradient checkpointing and additional adapters;
    restores dropout, cache and generation settings; ends in eval mode without gradients. Parameters that
    were trainable at `snapshot_settings` are trainable again.
    """
    if isinstance(model, PeftModel):
        _keep_own_adapters(model)
    whole = base_model(model)
    for module in {id(module): module for module in (model, *model.modules())}.values():
        for name in _LEFT_BEHIND:
            module.__dict__.pop(name, None)
        _drop_hooks(module)
    if whole.is_activation_checkpointing:
        whole.activation_checkpointing_disable()  # type: ignore[no-untyped-call]
    for module in whole.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.__dict__.pop("gradient_checkpointing", None)  # its class says False
    _restore_dropout(model)
    _restore_settings(whole)
    for parameter in model.parameters():
        parameter.grad = None
    return model.eval()


def freeze(model: PreTrainedModel | PeftModel) -> None:
    """Disable gradients of all parameters."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def _keep_own_adapters(model: PeftModel) -> None:
    own = adapter_stack(model)
    for name in [name for name in model.peft_config if name not in own]:
        activate(model, own, train=False)
        model.delete_adapter(name)
    activate(model, own, train=True)
    # TRL casts adapters of quantized models to 16 bits; a fresh load gives 32.
    for name, parameter in model.named_parameters():
        if re.search(r"\.lora_\w+\.", name) and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()


def _drop_hooks(module: nn.Module) -> None:
    for kind in _HOOKS:
        hooks = getattr(module, kind)
        for key, hook in list(hooks.items()):
            # transformers installs its own hooks once, to collect hidden states.
            if "output_capturing" not in getattr(hook, "__module__", ""):
                del hooks[key]


def _restore_dropout(model: PreTrainedModel | PeftModel) -> None:
    settings: Any = getattr(model, "peft_config", {})
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, dropout in module.lora_dropout.items():
                if isinstance(dropout, nn.Dropout):
                    dropout.p = settings[name].lora_dropout
    whole = base_model(model)
    disabled = {n: m for n, m in whole.named_modules() if type(m) is nn.Dropout and m.p == 0}
    if disabled:
        original = dict(meta_model(whole.config, like=type(whole)).named_modules())
        for name, module in disabled.items():
            twin = original.get(name.replace(".base_layer", ""))
            if isinstance(twin, nn.Dropout):
                module.p = twin.p


def _restore_settings(whole: PreTrainedModel) -> None:
    settings = settings_of(whole)
    if settings is None:
        whole.config.use_cache = True
        return
    for name, parameter in whole.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(name in settings.trained)
    whole.config.use_cache = settings.use_cache
    config = whole.config
    config.bos_token_id, config.eos_token_id, config.pad_token_id = settings.token_ids
    if settings.generation is not None:
        whole.generation_config = copy.deepcopy(settings.generation)
