"""Write the weights, load them back with plain libraries, and compare the outputs.

Shapes: T tokens of a prompt, V vocabulary size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from aligner.data.encoding.chat import ChatEncoder, stop_tokens
from aligner.export.options import ExportFailed, ExportOptions
from aligner.export.result import Verification
from aligner.models.adapters import is_reward, merge_stack
from aligner.models.files import read_json, stored_dtypes
from aligner.models.load import cast, load_as, silence_transformers
from aligner.models.resolve import local_folder
from aligner.models.restore import base_model, snapshot_settings
from aligner.models.save import save_model
from aligner.models.stop_tokens import add_model_stop_tokens
from aligner.models.tokens import set_token_ids
from aligner.state import Artifact, ModelCache

MERGE_TOLERANCE = 1e-3
"""Largest allowed change of a log-probability or score by merging, in fp32."""
_PROMPTS = (
    "What is the capital of France?",
    "Tell me a story about a little red cat that cannot sleep.",
    "2 + 2 =",
)
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def write_weights(
    artifact: Artifact, tokenizer: Any, folder: Path, options: ExportOptions
) -> tuple[Verification, torch.dtype]:
    """Write the model to `folder` and compare it after loading it with plain libraries.

    Returns:
        The comparison, and the data type of whole weights.

    Raises:
        ExportFailed: The loaded model differs from the run's model.
    """
    stored = stored_dtypes(local_folder(artifact))
    own = _DTYPES.get(next(iter(stored)), torch.float32) if len(stored) == 1 else torch.float32
    dtype = own if options.dtype is None else getattr(torch, options.dtype)
    prompts = _encode_prompts(tokenizer)
    if options.form == "adapter":
        return _write_adapter(artifact, tokenizer, folder, dtype, prompts), dtype
    reward = options.slot == "reward"
    verification = _write_merged(artifact, tokenizer, folder, dtype, prompts, reward=reward)
    return verification, dtype


def _write_merged(
    artifact: Artifact,
    tokenizer: Any,
    folder: Path,
    dtype: torch.dtype,
    prompts: Sequence[list[int]],
    *,
    reward: bool,
) -> Verification:
    model, merge_difference, rounding_difference = _load_merged(
        artifact, dtype, prompts, reward=reward
    )
    outputs, device = _outputs(model, prompts), model.device
    if not reward:
        set_token_ids(
            model, tokenizer, stop_ids=add_model_stop_tokens(model, stop_tokens(tokenizer))
        )
    save_model(model, folder, model_cache=ModelCache())
    del model  # frees memory for the model that is loaded back
    kind: Any = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    with silence_transformers():
        loaded = kind.from_pretrained(folder, dtype="auto", local_files_only=True).to(device)
    if loaded.dtype != dtype:
        raise ExportFailed(f"the model was written as {dtype} but loads as {loaded.dtype}")
    unit = "score" if reward else "log-probability"
    difference = _check_identical(loaded, outputs, prompts)
    return Verification(
        prompts=len(prompts),
        tokens=sum(map(len, prompts)),
        reload_difference=difference,
        merge_difference=merge_difference,
        rounding_difference=rounding_difference,
        unit=unit,
    )


def _load_merged(
    artifact: Artifact, dtype: torch.dtype, prompts: Sequence[list[int]], *, reward: bool
) -> tuple[Any, float | None, float | None]:
    """Load the model with its adapters merged, and measure the effects of merging and rounding.

    Raises:
        ExportFailed: Merging changed an output by more than `MERGE_TOLERANCE`.
    """
    if not artifact.adapters:
        return load_as(artifact, ModelCache(), dtype=dtype, reward=reward), None, None
    model: Any = load_as(artifact, ModelCache(), dtype=torch.float32, reward=reward)
    before = _outputs(model, prompts)
    model = merge_stack(model)
    merge_difference = _difference(before, _outputs(model, prompts))
    if not merge_difference <= MERGE_TOLERANCE:
        raise ExportFailed(
            f"merging changed an output by {merge_difference:.2g}; the limit is "
            f"{MERGE_TOLERANCE:g}",
            hint="export the adapter alone with --adapter",
        )
    cast(model, dtype)
    model.requires_grad_(False)
    snapshot_settings(model)
    rounded = dtype != torch.float32
    rounding_difference = _difference(before, _outputs(model, prompts)) if rounded else None
    return model, merge_difference, rounding_difference


def _write_adapter(
    artifact: Artifact,
    tokenizer: Any,
    folder: Path,
    dtype: torch.dtype,
    prompts: Sequence[list[int]],
) -> Verification:
    model: Any = load_as(artifact, ModelCache(), dtype=dtype)
    outputs, device = _outputs(model, prompts), model.device
    (source,) = map(Path, artifact.adapters)
    shutil.copyfile(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    settings = read_json(source / "adapter_config.json")
    settings |= {"base_model_name_or_path": artifact.path, "revision": artifact.revision}
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    base = base_model(model)
    set_token_ids(base, tokenizer, stop_ids=add_model_stop_tokens(base, stop_tokens(tokenizer)))
    if base.generation_config is not None:
        base.generation_config.save_pretrained(folder)
    del model, base
    with silence_transformers():
        loaded = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
    difference = _check_identical(loaded, outputs, prompts)
    return Verification(
        prompts=len(prompts), tokens=sum(map(len, prompts)), reload_difference=difference
    )


def _check_identical(loaded: Any, outputs: Sequence[Tensor], prompts: Sequence[list[int]]) -> float:
    """Return the largest difference of the loaded model's outputs, which is 0.

    Raises:
        ExportFailed: It is not 0.
    """
    loaded.eval()
    difference = _difference(outputs, _outputs(loaded, prompts))
    if difference:
        raise ExportFailed(
            f"the exported model differs from the run's model by up to {difference:.2g}",
            hint="nothing was exported; plain transformers loads this architecture differently",
        )
    return difference


def _encode_prompts(tokenizer: Any) -> list[list[int]]:
    """Return the ids of a few prompts, in the chat template if there is one."""
    if not tokenizer.chat_template:
        return [list(tokenizer(text)["input_ids"])[:64] for text in _PROMPTS]
    chat = ChatEncoder(tokenizer)
    turns = [({"role": "user", "content": text},) for text in _PROMPTS]
    return [sample.input_ids[:64] for sample in chat.encode([chat.prompt(t) for t in turns])]


@torch.no_grad()
def _outputs(model: Any, prompts: Sequence[list[int]]) -> list[Tensor]:
    """Return the log-probabilities (T, V) or the score of each prompt, in fp32 on the CPU."""
    outputs = []
    for ids in prompts:
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float().cpu()
        outputs.append(logits if is_reward(model) else torch.log_softmax(logits, -1))
    return outputs


def _difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the largest difference; infinity if shapes differ or a value is NaN or infinite."""
    largest = 0.0
    for left, right in zip(first, second, strict=True):
        if left.shape != right.shape or not bool(torch.isfinite(left - right).all()):
            return float("inf")
        largest = max(largest, float((left - right).abs().max()))
    return largest
