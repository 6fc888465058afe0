"""Load saved adapters: check that they are supported, and attach them to a model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from aligner.errors import ModelError
from aligner.models.adapters import (
    TOP,
    activate,
    adapter_names,
    adapter_stack,
    attach_config,
    belongs_to,
    copy_config,
    preserve_requires_grad,
    seeded,
)
from aligner.models.files import check_adapter_folder

# Settings that change the weights below the adapter, run code, or would be lost in a frozen copy or a stack.
_UNSUPPORTED = (
    "megatron_config",
    "layer_replication",
    "alora_invocation_tokens",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "velora_config",
    "monteclora_config",
    "kasa_config",
    "arrow_config",
)
_HARMLESS_INITS: tuple[Any, ...] = (True, False, None, "gaussian", "orthogonal")


def attach_saved(model: PreTrainedModel, folders: Sequence[str]) -> PeftModel:
    """Attach saved adapters to a model, lowest first, all active and frozen.

    Raises:
        ModelError: not a LoRA adapter in safetensors, or one of another model.
    """
    assert folders, "no adapter to attach"
    wrapped: PreTrainedModel | PeftModel = model
    for folder, name in zip(folders, adapter_names(len(folders)), strict=True):
        config = read_adapter(Path(folder))
        weights = load_file(Path(folder) / "adapter_model.safetensors")
        with seeded(0, folder):
            wrapped = _add_checked(wrapped, config, name, folder)
        _fill(wrapped, weights, name, folder)
    assert isinstance(wrapped, PeftModel)
    activate(wrapped, adapter_stack(wrapped), train=False)
    return wrapped


def attach_inactive(model: PeftModel, folder: str, name: str, *, without: Collection[str]) -> None:
    """Attach a saved adapter to `model`, inactive and frozen; the outputs do not change.

    Args:
        model: Model with adapters of its own.
        folder: Folder of the saved adapter.
        name: Name of the adapter; `restore_model` removes all but the model's own.
        without: Full modules among its weights that `model` does not have.

    Raises:
        ModelError: the adapter belongs to another model.
    """
    config = copy_config(read_adapter(Path(folder)))
    config.task_type, config.inference_mode = model.peft_config[TOP].task_type, True
    config.modules_to_save = sorted({*(config.modules_to_save or ())} - {*without}) or None
    weights = load_file(Path(folder) / "adapter_model.safetensors")
    weights = {k: v for k, v in weights.items() if not {*without} & {*k.split(".")}}
    with preserve_requires_grad(model):
        with seeded(0, folder):
            _add_checked(model, config, name, folder)
        _fill(model, weights, name, folder)
        activate(model, adapter_stack(model), train=False)


def read_adapter(folder: Path) -> LoraConfig:
    """Read the config of a saved adapter.

    Raises:
        ModelError: the adapter is of a kind that is not supported.
    """
    raw = check_adapter_folder(folder)
    kind = str(raw.get("peft_type", ""))
    if kind != "LORA":
        raise ModelError(
            f"{folder} contains an adapter of type {kind!r}, which is not supported",
            hint="supported are lora, rslora and dora",
        )
    found = [name for name in _UNSUPPORTED if raw.get(name)]
    init = raw.get("init_lora_weights", True)
    if init not in _HARMLESS_INITS:
        found.append(f"init_lora_weights: {init}")
    if found:
        raise ModelError(
            f"{folder} contains a LoRA adapter with {', '.join(found)}, which is not supported",
            hint="merge it into its model with peft, and start from the merged model",
        )
    # peft warns if the base model was moved, and finished steps are moved.
    known = {field.name for field in fields(LoraConfig)} - {"base_model_name_or_path"}
    return LoraConfig(**{key: value for key, value in raw.items() if key in known})


def _add_checked(
    model: PreTrainedModel | PeftModel, config: LoraConfig, name: str, folder: str
) -> PeftModel:
    try:
        return attach_config(model, config, name)
    except ValueError as error:
        raise ModelError(
            f"the adapter in {folder} does not fit this model: {error}",
            hint="it belongs to another model",
        ) from error


def _fill(
    model: PreTrainedModel | PeftModel,
    weights: dict[str, torch.Tensor],
    name: str,
    folder: str,
) -> None:
    try:
        report: Any = set_peft_model_state_dict(model, weights, adapter_name=name)
    except RuntimeError as error:
        shape = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"the adapter in {folder} does not fit this model: {shape}",
            hint="it was trained on a model of another size, or with another vocabulary",
        ) from error
    missing = [key for key in report.missing_keys if belongs_to(key, name)]
    wrong = [f"no {key}" for key in missing] + [
        f"a foreign {key}" for key in report.unexpected_keys
    ]
    if wrong:
        raise ModelError(
            f"the adapter in {folder} does not fit this model: it has {wrong[0]}"
            + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""),
            hint="it belongs to another model",
        )
