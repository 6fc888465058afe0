"""A fresh model is decided by its shape and seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aligner.errors import ModelError
from aligner.models.fresh import fresh_model
from aligner.models.options import FreshModel


def test_the_same_seed_makes_the_same_model() -> None:
    shape = FreshModel(hidden_size=16, layers=1, heads=2)

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed * 17)
        model: Any = fresh_model(shape, vocabulary=10, seed=seed)
        weight: torch.Tensor = model.model.layers[0].mlp.up_proj.weight
        return weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_fresh_model_has_the_shape_it_was_given() -> None:
    shape = FreshModel(
        hidden_size=24, layers=3, heads=4, kv_heads=2, mlp=40, positions=64, tied=False
    )
    model: Any = fresh_model(shape, vocabulary=10, seed=1)
    assert model.model.layers[2].mlp.up_proj.weight.shape == (40, 24)
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (12, 24)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (
        fresh_model(
            FreshModel(hidden_size=24, heads=4), vocabulary=9, seed=1
        ).config.intermediate_size
        == 64
    )
    assert (
        fresh_model(
            FreshModel(hidden_size=32, heads=4), vocabulary=9, seed=1
        ).config.intermediate_size
        == 88
    )


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        (
            FreshModel(hidden_size=20, heads=8),
            "r.yaml:3: hidden_size 20 does not divide into 8 heads of even width\n  hint: 16 would",
        ),
        (
            FreshModel(hidden_size=12, heads=4),
            "r.yaml:3: hidden_size 12 does not divide into 4 heads of even width\n  hint: 8 would",
        ),
        (
            FreshModel(hidden_size=16, heads=4, kv_heads=3),
            "r.yaml:3: 4 heads do not divide among 3 kv_heads\n  hint: let kv_heads divide heads",
        ),
    ],
)
def test_widths_that_do_not_divide_are_refused(shape: FreshModel, complaint: str) -> None:
    with pytest.raises(ModelError) as refused:
        fresh_model(shape, vocabulary=10, seed=1, where="r.yaml:3")
    assert str(refused.value) == complaint
