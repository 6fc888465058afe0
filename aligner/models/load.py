"""Bring an artifact into memory: from the step before if it is still there, else safely from disk."""

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
from aligner.models.adapters import seeded, stack_of
from aligner.models.clean import base_model, clean, freeze, settings_of, snapshot_settings
from aligner.models.files import check_model_folder, stored_dtypes
from aligner.models.options import Attention, Precision, Quantize
from aligner.models.precision import (
    check_attention,
    check_quantize,
    device,
    precision_of,
    weights_dtype,
)
from aligner.models.resolve import folder_of
from aligner.models.saved_adapters import attach_saved
from aligner.models.skeleton import config_from, model_class
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
    """The model behind `artifact`, in eval mode, and the caller's to keep.

    What a step left in memory and what a reload gives are the same to the bit. Whoever takes a model
    only to look at it gives it back with `model_cache.keep(artifact, model)`.

    Args:
        artifact: Whole weights, with adapters on top or not.
        live: Where the step before may have left it.
        precision: Decides how whole weights are held; see `weights_dtype`.
        quantize: Hold them in 4 or 8 bits.
        attn_implementation: Kernel that computes attention.
        trainable: All weights are to be trained; else none requires a gradient.
        reward: A model with a head that scores.
        on: Where to put it; None takes `device()`.

    Raises:
        ModelError: it cannot be loaded whole and safely, or not so on this machine.
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
        assert quantize is None, "quantised weights cannot be trained whole"
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
    """As `load_model`, with whole weights held as `dtype` and everything frozen."""
    there = on or device()
    folder = folder_of(artifact)
    model = model_cache.take(artifact)
    if model is not None and _serves(model, folder, dtype=dtype, quantize=quantize):
        clean(model)
        if quantize is None:
            cast(model, dtype)
            place(model, there)
        whole = base_model(model)
        whole.set_attn_implementation(_kernel(type(whole), attn_implementation))
    else:
        del model  # its memory is wanted for the one that is loaded now
        model = _read(
            folder,
            dtype=dtype,
            quantize=quantize,
            attn_implementation=attn_implementation,
            reward=reward,
            on=there,
        )
        if artifact.adapters:
            model = attach_saved(model, artifact.adapters)
    assert len(stack_of(model)) == len(artifact.adapters), "the live model is not this artifact"
    freeze(model)
    model.eval()
    snapshot_settings(model, quantize=quantize)
    return model


def cast(model: PreTrainedModel | PeftModel, dtype: torch.dtype) -> None:
    """Hold whole weights as `dtype`, in place, just as loading them so would; adapters stay as they are.

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
def quiet() -> Iterator[None]:
    """Keep the library's bars and reports off the terminal: the chain has its own."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def place(model: nn.Module, on: torch.device) -> None:
    """Move `model` in place."""
    model.to(on)


def _serves(
    model: PreTrainedModel | PeftModel,
    folder: Path,
    *,
    dtype: torch.dtype,
    quantize: Quantize | None,
) -> bool:
    """Whether the live object holds all that the files do, so that it can become what is wanted."""
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
    config = config_from(check_model_folder(folder))
    kind = model_class(config, reward=reward)
    if reward and getattr(config, "num_labels", None) != 1:
        raise ModelError(
            f"{folder} is no reward model: its head gives {config.num_labels} metrics, not one",
            hint="train a reward model first, or name one with num_labels 1",
        )
    more: dict[str, Any] = {}
    if quantize is not None:
        more = {"quantization_config": _quantised(quantize, dtype), "device_map": {"": on}}
    with seeded(0, "load"), quiet():
        loaded: Any = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=_kernel(kind, attn_implementation),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below
            **more,
        )
    model, report = loaded
    assert isinstance(model, PreTrainedModel)
    _refuse_incomplete(report, folder)
    if quantize is None:
        place(model, on)
    module: Any
    for module in model.modules():
        # On some CPUs bitsandbytes repacks weights in place when it is first asked without gradients,
        # and from then on computes otherwise than in training: a reference would not be the policy.
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
            "it is another kind of model, or was saved in part; a fresh weight is not a trained one",
        ),
        (
            unexpected,
            "holds, besides the model,",
            "it is another kind of model than is wanted here",
        ),
        (
            wrong_shape,
            "holds in another shape than config.json says",
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


def _quantised(quantize: Quantize, dtype: torch.dtype) -> BitsAndBytesConfig:
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
