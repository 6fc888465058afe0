"""A fresh model is decided by its shape and seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aligner.errors import ModelError, error_location
from aligner.models.fresh import fresh_model
from aligner.models.options import FreshModel


def test_the_same_seed_makes_the_same_model() -> None:
    shape = FreshModel(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed * 17)
        model: Any = fresh_model(shape, vocab_size=10, seed=seed)
        weight: torch.Tensor = model.model.layers[0].mlp.up_proj.weight
        return weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_fresh_model_has_the_shape_it_was_given() -> None:
    shape = FreshModel(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    model: Any = fresh_model(shape, vocab_size=10, seed=1)
    assert model.model.layers[2].mlp.up_proj.weight.shape == (40, 24)
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (12, 24)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (
        fresh_model(
            FreshModel(hidden_size=24, num_attention_heads=4), vocab_size=9, seed=1
        ).config.intermediate_size
        == 64
    )
    assert (
        fresh_model(
            FreshModel(hidden_size=32, num_attention_heads=4), vocab_size=9, seed=1
        ).config.intermediate_size
        == 88
    )


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        (
            FreshModel(hidden_size=20, num_attention_heads=8),
            "r.yaml:3: hidden_size 20 is not num_attention_heads 8 times an even width\n"
            "  hint: use hidden_size 16",
        ),
        (
            FreshModel(hidden_size=12, num_attention_heads=4),
            "r.yaml:3: hidden_size 12 is not num_attention_heads 4 times an even width\n"
            "  hint: use hidden_size 8",
        ),
        (
            FreshModel(hidden_size=16, num_attention_heads=4, num_key_value_heads=3),
            "r.yaml:3: num_key_value_heads 3 does not divide num_attention_heads 4\n"
            "  hint: use a divisor of 4",
        ),
    ],
)
def test_widths_that_do_not_divide_are_refused(shape: FreshModel, complaint: str) -> None:
    with pytest.raises(ModelError) as refused, error_location("r.yaml:3"):
        fresh_model(shape, vocab_size=10, seed=1)
    assert str(refused.value) == complaint
