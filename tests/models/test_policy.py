"""A step trains the parameters that its options select, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aligner.errors import ModelError, error_location
from aligner.models.adapters import belongs_to
from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions, adapter_plan
from aligner.models.policy import describe_incoming, load_policy
from aligner.models.save import save_model
from aligner.state import ModelCache

LORA = ModelOptions(adapter=Adapter(r=2))
STACK = ModelOptions(adapter=Adapter(r=3), incoming="stack")


@pytest.fixture
def trained_adapter(make: Any, train: Any, tmp_path: Path) -> Any:
    def made(adapter: Adapter, kind: str = "llama") -> Any:
        prepared = load_policy(
            make(kind), ModelCache(), ModelOptions(adapter=adapter), step="a", seed=7
        )
        train(prepared.model)
        return save_model(
            prepared.model, tmp_path / "a", model_cache=ModelCache(), base=prepared.base
        )

    return made


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        (ModelOptions(), ("default", False)),
        (ModelOptions(incoming="continue"), ("default", False)),
        (ModelOptions(incoming="merge"), (None, True)),
        (ModelOptions(incoming="merge", adapter=Adapter(r=2)), ("default", False)),
        (STACK, ("default", False)),
    ],
)
def test_what_should_move_moves_and_what_should_not_does_not(
    trained_adapter: Any, train: Any, options: ModelOptions, moves: tuple[str | None, bool]
) -> None:
    prepared = load_policy(trained_adapter(Adapter(r=2)), ModelCache(), options, step="b", seed=7)
    before = {n: p.detach().clone() for n, p in prepared.model.named_parameters()}
    train(prepared.model)
    moved = {n for n, p in prepared.model.named_parameters() if not torch.equal(p, before[n])}
    adapter, whole = moves
    if whole:
        assert moved == before.keys()
    else:
        assert adapter is not None
        assert moved == {name for name in before if belongs_to(name, adapter)}
    assert prepared.trained == sum(before[name].numel() for name in moved)
    assert prepared.parameters == sum(parameter.numel() for parameter in before.values())


def test_after_a_merge_all_weights_are_trained(trained_adapter: Any) -> None:
    """peft leaves a merged model without a single trainable parameter, and says nothing."""
    artifact = trained_adapter(Adapter(r=2))
    prepared = load_policy(artifact, ModelCache(), ModelOptions(incoming="merge"), step="b", seed=7)
    assert all(parameter.requires_grad for parameter in prepared.model.parameters())
    assert prepared.base is None


def test_below_a_new_adapter_every_older_one_still_counts(
    trained_adapter: Any, tmp_path: Path, train: Any, ids: torch.Tensor
) -> None:
    lowest = trained_adapter(Adapter(r=2))
    model_cache = ModelCache()
    prepared = load_policy(lowest, model_cache, STACK, step="b", seed=7)
    train(prepared.model)
    stacked = save_model(
        prepared.model, tmp_path / "b", model_cache=model_cache, base=prepared.base
    )
    assert stacked.path == lowest.path
    assert stacked.adapters == (lowest.adapters[0], str(tmp_path / "b"))
    whole: Any = load_model(stacked, model_cache)
    logits = whole(ids).logits
    for adapter in ("below0", "default"):
        twin: Any = load_model(stacked, ModelCache())
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                if belongs_to(name, adapter) and "lora_B" in name:
                    parameter.zero_()
        assert not torch.allclose(twin(ids).logits, logits, atol=1e-4)


def test_a_new_adapter_depends_on_seed_and_step_alone(make: Any, tmp_path: Path) -> None:
    start = make()

    def weights(seed: int, step: str) -> torch.Tensor:
        torch.manual_seed(torch.initial_seed() % 1000 + 1)
        model = load_policy(start, ModelCache(), LORA, step=step, seed=seed).model
        return next(p for n, p in model.named_parameters() if "lora_A" in n)

    assert torch.equal(weights(1, "sft"), weights(1, "sft"))
    assert not torch.equal(weights(1, "sft"), weights(2, "sft"))
    assert not torch.equal(weights(1, "sft"), weights(1, "dpo"))


@pytest.mark.parametrize(
    ("came", "options", "complaint"),
    [
        (
            0,
            ModelOptions(incoming="merge"),
            "r.yaml:3: `incoming: merge`, but the incoming model has no adapter\n"
            "  hint: remove `incoming`",
        ),
        (
            1,
            LORA,
            "r.yaml:3: the incoming model has an adapter and `adapter` describes a new one, so "
            "`incoming` is required\n  hint: add `incoming: merge` or `incoming: stack`, or remove "
            "`adapter` to train the incoming adapter further",
        ),
        (
            2,
            ModelOptions(incoming="stack"),
            "r.yaml:3: `incoming: stack` needs an `adapter` to add on top\n"
            "  hint: add one, such as `adapter: {method: lora, r: 16}`",
        ),
        (
            1,
            ModelOptions(incoming="continue", adapter=Adapter()),
            "r.yaml:3: `incoming: continue` trains the incoming adapter, but `adapter` describes "
            "another\n  hint: remove `adapter`, or use `incoming: merge` or `incoming: stack`",
        ),
    ],
)
def test_ambiguous_adapter_options_are_refused(
    came: int, options: ModelOptions, complaint: str
) -> None:
    with pytest.raises(ModelError) as refused, error_location("r.yaml:3"):
        adapter_plan(["adapter"] * came, options)
    assert str(refused.value) == complaint


@pytest.mark.parametrize("on_top", [False, True])
def test_a_dora_adapter_is_not_stacked(trained_adapter: Any, on_top: bool) -> None:
    below = trained_adapter(Adapter(r=2) if on_top else Adapter(r=2, method="dora"))
    new = Adapter(r=2, method="dora") if on_top else Adapter(r=2)
    with pytest.raises(ModelError) as refused, error_location("r.yaml:3"):
        load_policy(
            below,
            ModelCache(),
            ModelOptions(adapter=new, incoming="stack"),
            step="b",
            seed=7,
        )
    assert str(refused.value) == (
        "r.yaml:3: a dora adapter rescales the full weight, so it cannot be part of a stack\n"
        "  hint: use `incoming: merge`, or `incoming: continue`"
    )


def test_an_adapter_that_replaces_a_module_is_not_stacked(trained_adapter: Any) -> None:
    below = trained_adapter(Adapter(r=2, modules_to_save=("lm_head",)), "qwen2")
    with pytest.raises(ModelError) as refused:
        load_policy(below, ModelCache(), STACK, step="b", seed=7)
    assert str(refused.value) == (
        "an adapter that replaces lm_head cannot be part of a stack\n"
        "  hint: use `incoming: merge`, or `incoming: continue`"
    )


def test_the_table_says_what_becomes_of_incoming_adapters() -> None:
    assert describe_incoming("fresh", 0) == ""
    assert describe_incoming("continue", 1) == "adapter trained further"
    assert describe_incoming("continue", 3) == "topmost of 3 adapters trained further"
    assert describe_incoming("merge", 1) == "adapter merged"
    assert describe_incoming("merge and fresh", 2) == "2 adapters merged; new adapter"
    assert describe_incoming("stack", 1) == "adapter kept, frozen; new adapter on top"


def test_targets_are_a_list_or_all_linear() -> None:
    with pytest.raises(ValueError, match="give 'all-linear' or a list of module names, such as"):
        Adapter(target_modules="q_proj")
    with pytest.raises(ValueError, match="an adapter needs at least one target module"):
        Adapter(target_modules=[])
