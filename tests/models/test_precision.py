"""A precision that this machine cannot compute is an error before anything is loaded."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

import aligner.models.precision as precision
from aligner.errors import ModelError, error_location
from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions
from aligner.models.policy import load_policy
from aligner.models.precision import option_errors, precision_of, weights_dtype
from aligner.state import ModelCache


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "device", lambda: torch.device("cpu"))


def test_auto_is_fp32_on_a_cpu_and_what_is_asked_for_is_what_runs() -> None:
    assert precision_of("auto") == "fp32"
    assert [precision_of(item) for item in ("fp32", "bf16", "pure_bf16")] == [
        "fp32",
        "bf16",
        "pure_bf16",
    ]


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(ModelError) as refused, error_location("r.yaml:3"):
        precision_of("fp16")
    assert str(refused.value) == (
        "r.yaml:3: `precision: fp16` needs a CUDA GPU, but the device is cpu\n"
        "  hint: remove `precision`: auto is what the machine supports"
    )


def test_bf16_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert precision_of("auto") == "fp32"
    for asked in ("bf16", "pure_bf16"):
        with pytest.raises(ModelError) as refused, error_location("r.yaml:3"):
            precision_of(asked)
        assert str(refused.value) == (
            f"r.yaml:3: `precision: {asked}` is not supported on cuda here\n"
            "  hint: remove `precision`: auto is what the machine supports"
        )


def test_trained_weights_are_held_in_32_bits_unless_asked_otherwise() -> None:
    held = {
        (item, trainable): weights_dtype(item, trainable=trainable)
        for item in ("fp32", "bf16", "fp16", "pure_bf16")
        for trainable in (True, False)
    }
    assert held == {
        ("fp32", True): torch.float32,
        ("fp32", False): torch.float32,
        ("bf16", True): torch.float32,
        ("bf16", False): torch.bfloat16,
        ("fp16", True): torch.float32,
        ("fp16", False): torch.float16,
        ("pure_bf16", True): torch.bfloat16,
        ("pure_bf16", False): torch.bfloat16,
    }


def test_all_that_this_machine_lacks_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    options = ModelOptions(
        precision="fp16",
        quantize="nf4",
        attn_implementation="flash_attention_2",
        incoming="merge",
    )
    assert [str(error) for error in option_errors(options, at=lambda name: f"r.yaml ({name})")] == [
        "r.yaml (precision): `precision: fp16` needs a CUDA GPU, but the device is cpu\n"
        "  hint: remove `precision`: auto is what the machine supports",
        "r.yaml (quantize): `quantize: nf4` needs bitsandbytes, which is not installed\n"
        "  hint: pip install 'aligner[quantize]'",
        "r.yaml (quantize): `incoming: merge` with `quantize: nf4` would round the merged model\n"
        "  hint: use `incoming: stack` or `continue`, or remove `quantize` from this step",
        "r.yaml (attn_implementation): `attn_implementation: flash_attention_2` needs a CUDA GPU\n"
        "  hint: remove `attn_implementation`: auto is sdpa",
    ]


def test_the_same_is_refused_when_loading(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    start = make()
    with pytest.raises(ModelError, match="needs bitsandbytes, which is not installed"):
        load_model(start, ModelCache(), quantize="int8")
    with pytest.raises(ModelError, match="`quantize: nf4` needs bitsandbytes"):
        load_policy(
            start, ModelCache(), ModelOptions(adapter=Adapter(), quantize="nf4"), step="x", seed=1
        )


def test_the_options_and_the_resolver_load_no_torch() -> None:
    import subprocess

    code = (
        "import aligner.models.options, aligner.models.resolve, aligner.models.files, sys; "
        "print([m for m in ('torch', 'transformers', 'peft', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
