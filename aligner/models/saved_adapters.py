"""Adapters that lie in folders: read, refused where a chain cannot carry them, and put on a model."""

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
    attach_config,
    belongs_to,
    copied,
    gradients_kept,
    names_of,
    seeded,
    stack_of,
)
from aligner.models.files import check_adapter_folder

# Settings of an adapter from elsewhere that change the weights below it, run code, or that a frozen
# copy or a stack would not carry over.
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
    """Put saved adapters on whole weights, the lowest first, all on and all frozen.

    Raises:
        ModelError: not a LoRA adapter in safetensors, or one that does not fit this model.
    """
    assert folders, "no adapter to attach"
    wrapped: PreTrainedModel | PeftModel = model
    for folder, name in zip(folders, names_of(len(folders)), strict=True):
        config = read_adapter(Path(folder))
        weights = load_file(Path(folder) / "adapter_model.safetensors")
        with seeded(0, folder):
            wrapped = _add_checked(wrapped, config, name, folder)
        _fill(wrapped, weights, name, folder)
    assert isinstance(wrapped, PeftModel)
    activate(wrapped, stack_of(wrapped), train=False)
    return wrapped


def attach_beside(model: PeftModel, folder: str, name: str, *, without: Collection[str]) -> None:
    """Put a saved adapter beside those of `model`, off and frozen; the model computes as before.

    Args:
        model: Has adapters of its own.
        folder: The saved adapter.
        name: What it is called from here on; `clean` takes off all but the model's own.
        without: Whole modules among its weights that `model` does not have.

    Raises:
        ModelError: it does not fit.
    """
    config = copied(read_adapter(Path(folder)))
    config.task_type, config.inference_mode = model.peft_config[TOP].task_type, True
    config.modules_to_save = sorted({*(config.modules_to_save or ())} - {*without}) or None
    weights = load_file(Path(folder) / "adapter_model.safetensors")
    weights = {k: v for k, v in weights.items() if not {*without} & {*k.split(".")}}
    with gradients_kept(model):
        with seeded(0, folder):
            _add_checked(model, config, name, folder)
        _fill(model, weights, name, folder)
        activate(model, stack_of(model), train=False)


def read_adapter(folder: Path) -> LoraConfig:
    """The settings of a saved adapter, refused if it is of a kind that chains cannot carry."""
    raw = check_adapter_folder(folder)
    kind = str(raw.get("peft_type", ""))
    if kind != "LORA":
        raise ModelError(
            f"{folder} is an adapter of kind {kind!r}, which cannot be continued, merged or stacked",
            hint="aligner carries lora, rslora and dora",
        )
    found = [name for name in _UNSUPPORTED if raw.get(name)]
    init = raw.get("init_lora_weights", True)
    if init not in _HARMLESS_INITS:
        found.append(f"init_lora_weights: {init}")
    if found:
        raise ModelError(
            f"{folder} is a LoRA adapter with {', '.join(found)}, which cannot be carried along a chain",
            hint="merge it into its model with peft first, and start from the merged model",
        )
    # peft warns of a base that lies elsewhere now, and finished steps lie elsewhere than they were made.
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
            hint="it belongs on another model",
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
            hint="it belongs on another model",
        )
