"""Device, precision and kernels of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch

from aligner.errors import AlignerError, ErrorCollector, ModelError, error_location
from aligner.models.options import Attention, LoadOptions, ModelOptions, Precision, Quantize

ResolvedPrecision = Literal["fp32", "bf16", "fp16", "pure_bf16"]


def device() -> torch.device:
    """Return the accelerator of this process, or the CPU if there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision_of(precision: Precision) -> ResolvedPrecision:
    """Resolve `auto`, and check that this machine supports the precision.

    Raises:
        ModelError: it does not.
    """
    kind = device().type
    if precision == "auto":
        return "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    hint = "remove `precision`: auto is what the machine supports"
    if precision == "fp16" and kind != "cuda":
        raise ModelError(f"`precision: fp16` needs a CUDA GPU, but the device is {kind}", hint=hint)
    if precision in ("bf16", "pure_bf16") and not _has_bf16(kind):
        raise ModelError(f"`precision: {precision}` is not supported on {kind} here", hint=hint)
    return precision


def weights_dtype(precision: ResolvedPrecision, *, trainable: bool) -> torch.dtype:
    """Return the data type of full weights in memory; adapters are always in fp32.

    Args:
        precision: Result of `precision_of`.
        trainable: True if the weights are trained: then mixed precision keeps them in 32 bits, so that
            small updates are not lost (Micikevicius 2018, section 3.1).
    """
    if precision == "pure_bf16":
        return torch.bfloat16
    if precision == "fp32" or trainable:
        return torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float16


def option_errors(
    options: LoadOptions, *, at: Callable[[str], str] = lambda option: ""
) -> list[AlignerError]:
    """Find options of loading that this machine cannot fulfill: precision, quantization, attention.

    Args:
        options: Options of the step.
        at: Location of an option, as `context.at` gives it.
    """
    errors = ErrorCollector()
    with errors, error_location(at("precision")):
        precision_of(options.precision)
    with errors, error_location(at("quantize")):
        check_quantize(options.quantize)
    if isinstance(options, ModelOptions) and options.quantize and options.incoming == "merge":
        errors.found.append(
            ModelError(
                f"`incoming: merge` with `quantize: {options.quantize}` would round the merged model",
                where=at("quantize"),
                hint="use `incoming: stack` or `continue`, or remove `quantize` from this step",
            )
        )
    with errors, error_location(at("attn_implementation")):
        check_attention(options.attn_implementation)
    return errors.found


def check_quantize(quantize: Quantize | None) -> None:
    """Check that the quantization library is installed.

    Raises:
        ModelError: it is not.
    """
    if quantize is not None and find_spec("bitsandbytes") is None:
        raise ModelError(
            f"`quantize: {quantize}` needs bitsandbytes, which is not installed",
            hint="pip install 'aligner[quantize]'",
        )


def check_attention(attn_implementation: Attention) -> None:
    """Check that the attention kernel is available; none is ever downloaded.

    Raises:
        ModelError: it is not.
    """
    if attn_implementation != "flash_attention_2":
        return
    on_gpu = device().type == "cuda"
    if not on_gpu or find_spec("flash_attn") is None:
        missing = "the package flash-attn" if on_gpu else "a CUDA GPU"
        raise ModelError(
            f"`attn_implementation: {attn_implementation}` needs {missing}",
            hint="remove `attn_implementation`: auto is sdpa",
        )


def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Every CPU that torch supports computes bf16, slowly but as a GPU does; older Apple GPUs cannot.
    return kind == "cpu" or torch.backends.mps.is_macos_or_newer(14, 0)
