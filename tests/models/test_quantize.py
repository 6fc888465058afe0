"""An adapter on weights held in four or eight bits: its reference, its save and its hand-over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions, Quantize
from aligner.models.policy import load_policy
from aligner.models.reference import reference_of
from aligner.models.save import save_model
from aligner.state import ModelCache

pytest.importorskip("bitsandbytes", reason="needs aligner[quantize]")


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("then", ["stack", "continue"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_chain_of_adapters_on_quantized_weights(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor, quantize: Quantize, then: str
) -> None:
    new = Adapter(r=2) if then == "stack" else None
    incoming: Any = then
    steps = [
        ModelOptions(adapter=Adapter(r=2), quantize=quantize),
        ModelOptions(adapter=new, incoming=incoming, quantize=quantize),
    ]
    artifact, model_cache = make("wide"), ModelCache()
    for number, options in enumerate(steps):
        prepared = load_policy(artifact, model_cache, options, step="x", seed=7)
        policy = prepared.model(ids).logits.detach()
        reference = reference_of(prepared)
        with reference.active() as model:
            assert torch.equal(model(ids).logits, policy)
        train(prepared.model, rate=0.5)
        assert not torch.equal(prepared.model(ids).logits, policy)
        with reference.active() as model:
            assert torch.equal(model(ids).logits, policy)
        reference.close()
        artifact = save_model(
            prepared.model, tmp_path / str(number), model_cache=model_cache, base=prepared.base
        )
    handed = load_model(artifact, model_cache, quantize=quantize)
    assert handed is prepared.model
    loaded = load_model(artifact, ModelCache(), quantize=quantize)
    assert torch.equal(handed(ids).logits, loaded(ids).logits)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_step_without_quantization_gets_whole_weights_again(
    make: Any, tmp_path: Path, ids: torch.Tensor, differences: Any
) -> None:
    options = ModelOptions(adapter=Adapter(r=2), quantize="nf4")
    model_cache = ModelCache()
    prepared = load_policy(make("wide"), model_cache, options, step="x", seed=7)
    artifact = save_model(
        prepared.model, tmp_path / "a", model_cache=model_cache, base=prepared.base
    )
    handed = load_model(artifact, model_cache)
    assert differences(handed, load_model(artifact, ModelCache())) == []
    assert not getattr(handed.get_base_model(), "is_quantized", False)
