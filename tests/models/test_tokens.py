"""A model fitted to its tokenizer keeps what it knew, and starts new tokens at the mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aligner.models.load import load_model
from aligner.models.restore import restore_model
from aligner.models.save import save_model
from aligner.models.tokens import resize_embeddings, set_token_ids
from aligner.state import ModelCache


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_new_rows_are_the_mean_of_the_old(
    make: Any, tokenizer: Any, tmp_path: Path, ids: torch.Tensor, differences: Any, kind: str
) -> None:
    model: Any = load_model(make(kind), ModelCache(), trainable=True)
    before = model(ids).logits
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    old = [end.weight.detach().clone() for end in ends]
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    state = torch.get_rng_state()
    assert resize_embeddings(model, tokenizer) == 2
    assert torch.equal(torch.get_rng_state(), state)
    for end, kept in zip(
        (model.get_input_embeddings(), model.get_output_embeddings()), old, strict=True
    ):
        assert torch.equal(end.weight[:24], kept)
        assert torch.equal(end.weight[24:], kept.mean(0).expand(2, -1))
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (kind != "qwen2")
    assert torch.equal(model(ids).logits[..., :24], before)
    assert model.config.vocab_size == 26
    model_cache = ModelCache()
    saved = save_model(model, tmp_path / "out", model_cache=model_cache)
    assert differences(load_model(saved, model_cache), load_model(saved, ModelCache())) == []
    assert model.get_input_embeddings().weight.requires_grad is False


def test_rows_are_never_taken_away(make: Any, tokenizer: Any) -> None:
    model: Any = load_model(make(), ModelCache())
    assert len(tokenizer) == 24
    tokenizer.add_tokens(["x1"])
    assert resize_embeddings(model, tokenizer) == 1
    tokenizer.add_tokens([])
    assert resize_embeddings(model, [0] * 10) == 0
    assert model.get_input_embeddings().weight.shape[0] == 25


def test_the_ids_of_special_tokens_outlive_a_cleaning_and_a_save(
    make: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model: Any = load_model(make(), ModelCache())
    model.generation_config.eos_token_id = 9
    set_token_ids(model, tokenizer, stop_ids=[5, 2])
    restore_model(model)
    saved = save_model(model, tmp_path / "out", model_cache=ModelCache())
    again: Any = load_model(saved, ModelCache())
    for item in (model, again):
        config, generation = item.config, item.generation_config
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 5, 0)
        assert (generation.bos_token_id, generation.pad_token_id) == (1, 0)
        assert generation.eos_token_id == [5, 2]
    set_token_ids(model, tokenizer)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == 2
