"""Load an artifact: from the model cache if it is there, else from disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging

from aligner.errors import ModelError
from aligner.models.adapters import adapter_stack, seeded
from aligner.models.files import check_model_folder, stored_dtypes
from aligner.models.meta_model import model_class, parse_config
from aligner.models.options import Attention, Precision, Quantize
from aligner.models.precision import (
    check_attention,
    check_quantize,
    device,
    precision_of,
    weights_dtype,
)
from aligner.models.resolve import local_folder
from aligner.models.restore import base_model, freeze, restore_model, settings_of, snapshot_settings
from aligner.models.saved_adapters import attach_saved
from aligner.state import Artifact, ModelCache

_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def load_model(
    artifact: Artifact,
    model_cache: ModelCache,
    *,
    precision: Precision = "auto",
    quantize: Quantize | None = None,
    attn_implementation: Attention = "auto",
    trainable: bool = False,
    reward: bool = False,
    on: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """Load a model in eval mode; the caller owns it.

    The model in the cache and a reload are bit-identical. A caller that does not change the model returns
    it by `model_cache.keep(artifact, model)`.

    Args:
        artifact: The model, with or without adapters.
        model_cache: May contain the model in memory.
        precision: Determines the data type of full weights; see `weights_dtype`.
        quantize: Quantize the full weights.
        attn_implementation: Attention kernel.
        trainable: All weights require a gradient; else none does.
        reward: Load a reward model.
        on: Device; `device()` by default.

    Raises:
        ModelError: the files are incomplete or unsafe, or this machine lacks what the options need.
    """
    check_quantize(quantize)
    check_attention(attn_implementation)
    dtype = weights_dtype(precision_of(precision), trainable=trainable)
    model = load_as(
        artifact,
        model_cache,
        dtype=dtype,
        quantize=quantize,
        attn_implementation=attn_implementation,
        reward=reward,
        on=on,
    )
    if trainable:
        assert quantize is None, "quantized weights cannot be trained"
        model.requires_grad_(True)
        snapshot_settings(model)
    return model


def load_as(
    artifact: Artifact,
    model_cache: ModelCache,
    *,
    dtype: torch.dtype,
    quantize: Quantize | None = None,
    attn_implementation: Attention = "auto",
    reward: bool = False,
    on: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """Load a model as `load_model` does, with full weights in `dtype` and all parameters frozen."""
    target = on or device()
    folder = local_folder(artifact)
    model = model_cache.take(artifact)
    if model is not None and _is_usable(model, folder, dtype=dtype, quantize=quantize):
        restore_model(model)
        if quantize is None:
            cast(model, dtype)
            move_to(model, target)
        whole = base_model(model)
        whole.set_attn_implementation(_kernel(type(whole), attn_implementation))
    else:
        del model  # free its memory before the next one loads
        model = _read(
            folder,
            dtype=dtype,
            quantize=quantize,
            attn_implementation=attn_implementation,
            reward=reward,
            on=target,
        )
        if artifact.adapters:
            model = attach_saved(model, artifact.adapters)
    assert len(adapter_stack(model)) == len(artifact.adapters), (
        "the cached model is not this artifact"
    )
    freeze(model)
    model.eval()
    snapshot_settings(model, quantize=quantize)
    return model


def cast(model: PreTrainedModel | PeftModel, dtype: torch.dtype) -> None:
    """Cast full weights in place, as loading them in `dtype` would; adapters do not change.

    `model.to(dtype)` would also round what transformers always computes in 32 bits, such as the
    frequencies of rotary embeddings.
    """
    whole = base_model(model)
    for name, parameter in whole.named_parameters():
        if parameter.is_floating_point() and ".lora_" not in name:
            parameter.data = parameter.data.to(dtype)
    for module in whole.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point() and name not in module._non_persistent_buffers_set:
                module.register_buffer(name, buffer.to(dtype))
    whole.config.dtype = dtype


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Disable progress bars and reports of transformers in the body: the chain has its own."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def move_to(model: nn.Module, on: torch.device) -> None:
    """Move `model` to a device, in place."""
    model.to(on)


def _is_usable(
    model: PreTrainedModel | PeftModel,
    folder: Path,
    *,
    dtype: torch.dtype,
    quantize: Quantize | None,
) -> bool:
    """Return True if a cast of the cached model gives what loading the files would."""
    settings = settings_of(model)
    if (settings.quantize if settings else None) != quantize:
        return False
    whole = base_model(model)
    if whole.dtype == dtype or quantize is not None:
        return bool(whole.dtype == dtype)
    if whole._keep_in_fp32_modules or whole._keep_in_fp32_modules_strict:
        return False
    stored = {_STORED.get(name) for name in stored_dtypes(folder)}
    return bool(whole.dtype == torch.float32 or stored == {whole.dtype})


def _read(
    folder: Path,
    *,
    dtype: torch.dtype,
    quantize: Quantize | None,
    attn_implementation: Attention,
    reward: bool,
    on: torch.device,
) -> PreTrainedModel:
    config = parse_config(check_model_folder(folder))
    kind = model_class(config, reward=reward)
    if reward and getattr(config, "num_labels", None) != 1:
        raise ModelError(
            f"{folder} is no reward model: its head has {config.num_labels} outputs, not one",
            hint="train a reward model first, or name one with num_labels 1",
        )
    extra: dict[str, Any] = {}
    if quantize is not None:
        extra = {"quantization_config": _quantization(quantize, dtype), "device_map": {"": on}}
    with seeded(0, "load"), silence_transformers():
        loaded: Any = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=_kernel(kind, attn_implementation),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report lists them, and they are refused below
            **extra,
        )
    model, report = loaded
    assert isinstance(model, PreTrainedModel)
    _refuse_incomplete(report, folder)
    if quantize is None:
        move_to(model, on)
    module: Any
    for module in model.modules():
        # On some CPUs bitsandbytes repacks weights at the first forward pass without gradients, and then
        # computes differently than in training: a reference would not equal the policy.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _refuse_incomplete(report: dict[str, Any], folder: Path) -> None:
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    wrong_shape = sorted(str(key) for key in report["mismatched_keys"])
    for names, what, hint in (
        (
            missing,
            "lacks",
            "it is another kind of model, or was saved incompletely; missing weights would be random",
        ),
        (
            unexpected,
            "contains, besides the model,",
            "it is another kind of model than this step needs",
        ),
        (
            wrong_shape,
            "contains in another shape than config.json defines",
            "weights and config.json do not belong together",
        ),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(f"{folder} {what} {names[0]}{more}", hint=hint)


def _kernel(kind: type[PreTrainedModel], attn_implementation: Attention) -> str:
    if attn_implementation != "auto":
        return attn_implementation
    return "sdpa" if kind._supports_sdpa else "eager"


def _quantization(quantize: Quantize, dtype: torch.dtype) -> BitsAndBytesConfig:
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
