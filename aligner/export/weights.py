"""Write the weights, load them back with plain libraries, and prove that they compute the same.

Shapes: T tokens of a prompt, V words.
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
from aligner.export.spec import ExportError, ExportFailed, Proof, Wanted
from aligner.models.adapters import is_reward, merge_stack
from aligner.models.clean import base_model, snapshot_settings
from aligner.models.files import read_json, stored_dtypes
from aligner.models.load import cast, load_as, quiet
from aligner.models.resolve import folder_of
from aligner.models.save import save_model
from aligner.models.stops import answer_ends
from aligner.models.tokens import set_token_ids
from aligner.state import Artifact, ModelCache

MERGED = 1e-3
"""The most that merging may move any log-probability or score, in 32 bits."""
_ASKED = (
    "What is the capital of France?",
    "Tell me a story about a little red cat that cannot sleep.",
    "2 + 2 =",
)
_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def write_weights(
    artifact: Artifact, tokenizer: Any, folder: Path, wanted: Wanted, *, where: str
) -> tuple[Proof, torch.dtype]:
    """Write the model into `folder` as `wanted`, and compare what plain libraries load from there.

    Returns:
        How it compares, and how whole weights are held.

    Raises:
        ExportError: It cannot be written in that form.
        ExportFailed: What was loaded back is not the run's model.
    """
    stored = stored_dtypes(folder_of(artifact, where=where))
    kept = _STORED.get(next(iter(stored)), torch.float32) if len(stored) == 1 else torch.float32
    dtype = kept if wanted.dtype is None else getattr(torch, wanted.dtype)
    asked = _prompts(tokenizer)
    if wanted.form == "adapter":
        proof = _write_adapter(artifact, tokenizer, folder, dtype, asked, where=where)
    else:
        reward = wanted.slot == "reward"
        proof = _write_whole(artifact, tokenizer, folder, dtype, asked, reward=reward, where=where)
    return proof, dtype


def _write_whole(
    artifact: Artifact,
    tokenizer: Any,
    folder: Path,
    dtype: torch.dtype,
    asked: Sequence[list[int]],
    *,
    reward: bool,
    where: str,
) -> Proof:
    merged = rounded = None
    if artifact.adapters:
        model: Any = load_as(
            artifact, ModelCache(), dtype=torch.float32, reward=reward, where=where
        )
        before = _outputs(model, asked)
        model = merge_stack(model)
        merged = _difference(before, _outputs(model, asked))
        if not merged <= MERGED:
            raise ExportFailed(
                f"merging moved an output by {merged:.2g}, and {MERGED:g} is the most it may",
                hint="export the adapter alone with --adapter",
            )
        cast(model, dtype)
        model.requires_grad_(False)
        snapshot_settings(model)
        rounded = None if dtype == torch.float32 else _difference(before, _outputs(model, asked))
    else:
        model = load_as(artifact, ModelCache(), dtype=dtype, reward=reward, where=where)
    outputs, there = _outputs(model, asked), model.device
    if not reward:
        set_token_ids(model, tokenizer, stop_ids=answer_ends(model, stop_tokens(tokenizer)))
    save_model(model, folder, model_cache=ModelCache())
    del model  # its memory is wanted for the one that is loaded back
    kind: Any = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    with quiet():
        loaded = kind.from_pretrained(folder, dtype="auto", local_files_only=True).to(there)
    if loaded.dtype != dtype:
        raise ExportFailed(f"the model was to be {dtype}, and loads as {loaded.dtype}")
    unit = "score" if reward else "log-probability"
    return _proof(loaded, outputs, asked, merged=merged, rounded=rounded, unit=unit)


def _write_adapter(
    artifact: Artifact,
    tokenizer: Any,
    folder: Path,
    dtype: torch.dtype,
    asked: Sequence[list[int]],
    *,
    where: str,
) -> Proof:
    if len(artifact.adapters) != 1:
        count = len(artifact.adapters)
        raise ExportError(
            f"the policy is {f'a stack of {count} adapters' if count else 'whole weights'}, "
            "and --adapter writes a single one",
            where=where,
            hint="export it merged, which is the default",
        )
    model: Any = load_as(artifact, ModelCache(), dtype=dtype, where=where)
    outputs, there = _outputs(model, asked), model.device
    (source,) = map(Path, artifact.adapters)
    shutil.copyfile(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    settings = read_json(source / "adapter_config.json")
    settings |= {"base_model_name_or_path": artifact.path, "revision": artifact.revision}
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    whole = base_model(model)
    set_token_ids(whole, tokenizer, stop_ids=answer_ends(whole, stop_tokens(tokenizer)))
    if whole.generation_config is not None:
        whole.generation_config.save_pretrained(folder)
    del model, whole
    with quiet():
        loaded = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=dtype).to(there)
    return _proof(loaded, outputs, asked)


def _proof(
    loaded: Any,
    outputs: Sequence[Tensor],
    asked: Sequence[list[int]],
    *,
    merged: float | None = None,
    rounded: float | None = None,
    unit: str = "log-probability",
) -> Proof:
    loaded.eval()
    difference = _difference(outputs, _outputs(loaded, asked))
    if difference:
        raise ExportFailed(
            f"what was written loads as another model: an output differs by {difference:.2g}",
            hint="nothing was exported; plain transformers reads this architecture in another way",
        )
    return Proof(
        prompts=len(asked),
        tokens=sum(map(len, asked)),
        loaded=difference,
        merged=merged,
        rounded=rounded,
        unit=unit,
    )


def _prompts(tokenizer: Any) -> list[list[int]]:
    """A few prompts as token ids: questions in the template, or plain texts where there is none."""
    if not tokenizer.chat_template:
        return [list(tokenizer(text)["input_ids"])[:64] for text in _ASKED]
    chat = ChatEncoder(tokenizer)
    turns = [({"role": "user", "content": text},) for text in _ASKED]
    return [one.input_ids[:64] for one in chat.encode([chat.prompt(turn) for turn in turns])]


@torch.no_grad()
def _outputs(model: Any, asked: Sequence[list[int]]) -> list[Tensor]:
    """Log-probabilities at every token (T, V), or a score; fp32, on the CPU, one a prompt."""
    found = []
    for ids in asked:
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float().cpu()
        found.append(logits if is_reward(model) else torch.log_softmax(logits, -1))
    return found


def _difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest difference anywhere; infinite where the shapes differ or a value is not a number."""
    largest = 0.0
    for left, right in zip(one, other, strict=True):
        if left.shape != right.shape or not bool(torch.isfinite(left - right).all()):
            return float("inf")
        largest = max(largest, float((left - right).abs().max()))
    return largest
