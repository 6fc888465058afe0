"""Saved models are complete, load in transformers, and are verified to be equal."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import aligner.models.save as save
from aligner.errors import ModelError, StageError, error_location
from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions
from aligner.models.policy import load_policy
from aligner.models.save import save_model
from aligner.state import ModelCache

LORA = ModelOptions(adapter=Adapter(r=2))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_a_saved_model_is_an_ordinary_folder(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor, kind: str
) -> None:
    prepared = load_policy(make(kind), ModelCache(), ModelOptions(), step="x", seed=7)
    train(prepared.model)
    artifact = save_model(prepared.model, tmp_path / "out", model_cache=ModelCache())
    plain = AutoModelForCausalLM.from_pretrained(artifact.path).eval()
    assert torch.equal(plain(ids).logits, prepared.model(ids).logits)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_saved_adapter_is_an_ordinary_folder_and_its_base_is_not_copied(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor
) -> None:
    prepared = load_policy(make(), ModelCache(), LORA, step="x", seed=7)
    train(prepared.model)
    artifact = save_model(
        prepared.model, tmp_path / "out", model_cache=ModelCache(), base=prepared.base
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    base = AutoModelForCausalLM.from_pretrained(artifact.path)
    plain = PeftModel.from_pretrained(base, artifact.adapters[0]).eval()
    assert torch.equal(plain(ids).logits, prepared.model(ids).logits)


def test_a_merged_base_is_saved_below_its_new_adapter(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor
) -> None:
    model_cache = ModelCache()
    first = load_policy(make("qwen2"), model_cache, LORA, step="x", seed=7)
    train(first.model)
    below = save_model(first.model, tmp_path / "1", model_cache=model_cache, base=first.base)
    options = ModelOptions(adapter=Adapter(r=2, modules_to_save=("lm_head",)), incoming="merge")
    second = load_policy(below, model_cache, options, step="y", seed=7)
    train(second.model)
    artifact = save_model(second.model, tmp_path / "2", model_cache=model_cache, base=second.base)
    assert artifact.path == str(tmp_path / "2" / "base")
    assert artifact.adapters == (str(tmp_path / "2"),)
    merged: Any = load_policy(
        below, ModelCache(), ModelOptions(incoming="merge"), step="y", seed=7
    ).model
    alone: Any = AutoModelForCausalLM.from_pretrained(artifact.path)
    assert torch.equal(alone(ids).logits, merged(ids).logits)
    again: Any = load_model(artifact, ModelCache())
    assert torch.equal(again(ids).logits, second.model(ids).logits)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_names_its_base_where_that_lies_once_the_step_has_finished(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor
) -> None:
    model_cache = ModelCache()
    first = load_policy(make(), model_cache, LORA, step="x", seed=7)
    below = save_model(first.model, tmp_path / "1", model_cache=model_cache, base=first.base)
    second = load_policy(
        below, model_cache, ModelOptions(adapter=Adapter(r=2), incoming="merge"), step="y", seed=7
    )
    train(second.model)
    work, final = tmp_path / ".steps" / "ab.partial", tmp_path / ".steps" / "ab"
    save_model(second.model, work / "policy", model_cache=model_cache, base=second.base)
    work.rename(final)
    plain = AutoPeftModelForCausalLM.from_pretrained(str(final / "policy")).eval()
    assert torch.equal(plain(ids).logits, second.model(ids).logits)


def test_files_have_the_mode_that_the_umask_gives(make: Any, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        prepared = load_policy(make(), ModelCache(), LORA, step="x", seed=7)
        save_model(prepared.model, tmp_path / "out", model_cache=ModelCache(), base=prepared.base)
    finally:
        os.umask(before)
    for folder in (tmp_path / "start", tmp_path / "out"):
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o640, path


def test_what_an_interrupted_attempt_left_is_not_part_of_the_model(
    make: Any, tmp_path: Path, differences: Any
) -> None:
    prepared = load_policy(make(), ModelCache(), ModelOptions(), step="x", seed=7)
    whole = save_model(prepared.model, tmp_path / "whole", model_cache=ModelCache())
    (tmp_path / "out").mkdir()
    for name in ("model-00001-of-00002.safetensors", "adapter_config.json", "metrics.jsonl"):
        (tmp_path / "out" / name).write_bytes(b"torn")
    again = save_model(prepared.model, tmp_path / "out", model_cache=ModelCache())
    assert again.hash == whole.hash
    assert (tmp_path / "out" / "metrics.jsonl").exists()
    assert differences(load_model(again, ModelCache()), load_model(whole, ModelCache())) == []


def test_weights_that_are_not_finite_are_not_a_result(make: Any, tmp_path: Path) -> None:
    prepared = load_policy(make(), ModelCache(), ModelOptions(), step="x", seed=7)
    with torch.no_grad():
        next(prepared.model.parameters())[0, 0] = float("nan")
    with pytest.raises(StageError) as stopped:
        save_model(prepared.model, tmp_path / "out", model_cache=ModelCache())
    assert str(stopped.value) == (
        "the trained weights are not finite: model.embed_tokens.weight\n"
        "  hint: the training diverged; use a lower learning_rate"
    )


def test_a_save_that_writes_something_else_is_caught(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = load_policy(make(), ModelCache(), LORA, step="x", seed=7)

    def forgetful(tensors: dict[str, torch.Tensor], path: Path, metadata: Any) -> None:
        kept = dict(list(tensors.items())[1:])
        save_file(kept, path, metadata)

    monkeypatch.setattr(save, "save_file", forgetful)
    with pytest.raises(StageError) as stopped:
        save_model(prepared.model, tmp_path / "out", model_cache=ModelCache(), base=prepared.base)
    assert str(stopped.value).startswith(
        "the saved model differs from the model in memory: base_model."
    )
    assert str(stopped.value).endswith(
        f"was not written to {tmp_path / 'out'}\n  hint: check the disk"
    )


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_missing_or_foreign_weight_is_an_error(make: Any, kind: str) -> None:
    start = make(kind)
    weights = Path(start.path) / "model.safetensors"
    whole = load_file(weights)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({k: v for k, v in whole.items() if k != name}, weights, {"format": "pt"})
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        load_model(start, ModelCache())
    assert str(refused.value) == (
        f"r.yaml:1: {start.path} lacks {name}\n  hint: it is another kind of model, or was saved "
        "incompletely; missing weights would be random"
    )
    save_file(whole | {"score.weight": torch.zeros(1, 16)}, weights, {"format": "pt"})
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        load_model(start, ModelCache())
    assert str(refused.value) == (
        f"r.yaml:1: {start.path} contains, besides the model, score.weight\n"
        "  hint: it is another kind of model than this step needs"
    )
    save_file(whole | {name: torch.zeros(3, 16)}, weights, {"format": "pt"})
    with pytest.raises(ModelError, match=r"in another shape than config\.json defines"):
        load_model(start, ModelCache())
