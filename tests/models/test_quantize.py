"""An adapter on weights held in four or eight bits: its reference, its save and its hand-over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aligner.models.load import load_model
from aligner.models.policy import load_policy
from aligner.models.reference import reference_of
from aligner.models.save import save_model
from aligner.models.spec import Adapter, ModelOptions, Quantize
from aligner.state import Live

pytest.importorskip("bitsandbytes", reason="needs aligner[quantize]")


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("then", ["stack", "continue"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_chain_of_adapters_on_quantised_weights(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor, quantize: Quantize, then: str
) -> None:
    new = Adapter(r=2) if then == "stack" else None
    incoming: Any = then
    steps = [
        ModelOptions(adapter=Adapter(r=2), quantize=quantize),
        ModelOptions(adapter=new, incoming=incoming, quantize=quantize),
    ]
    artifact, live = make("wide"), Live()
    for number, options in enumerate(steps):
        prepared = load_policy(artifact, live, options, step="x", seed=7)
        policy = prepared.model(ids).logits.detach()
        reference = reference_of(prepared)
        with reference.active() as model:
            assert torch.equal(model(ids).logits, policy)
        train(prepared.model, rate=0.5)
        assert not torch.equal(prepared.model(ids).logits, policy)
        with reference.active() as model:
            assert torch.equal(model(ids).logits, policy)
        reference.close()
        artifact = save_model(prepared.model, tmp_path / str(number), live=live, base=prepared.base)
    handed = load_model(artifact, live, quantize=quantize)
    assert handed is prepared.model
    loaded = load_model(artifact, Live(), quantize=quantize)
    assert torch.equal(handed(ids).logits, loaded(ids).logits)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_step_without_quantisation_gets_whole_weights_again(
    make: Any, tmp_path: Path, ids: torch.Tensor, differences: Any
) -> None:
    options = ModelOptions(adapter=Adapter(r=2), quantize="nf4")
    live = Live()
    prepared = load_policy(make("wide"), live, options, step="x", seed=7)
    artifact = save_model(prepared.model, tmp_path / "a", live=live, base=prepared.base)
    handed = load_model(artifact, live)
    assert differences(handed, load_model(artifact, Live())) == []
    assert not getattr(handed.get_base_model(), "is_quantized", False)
