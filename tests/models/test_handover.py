"""The law of hand-over: what a step leaves in memory and what a reload gives are the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions, Precision
from aligner.models.policy import load_policy
from aligner.models.save import save_model
from aligner.state import Artifact, ModelCache

FULL = ModelOptions()
LORA = ModelOptions(adapter=Adapter(r=2, lora_dropout=0.1))
RSLORA = ModelOptions(adapter=Adapter(method="rslora", r=2))
DORA = ModelOptions(adapter=Adapter(method="dora", r=2))
ATTENTION = ModelOptions(adapter=Adapter(r=2, target_modules=("q_proj", "v_proj")))
CONTINUE = ModelOptions(incoming="continue")
MERGE = ModelOptions(incoming="merge")
MERGE_FRESH = ModelOptions(adapter=Adapter(r=2), incoming="merge")
STACK = ModelOptions(adapter=Adapter(r=3), incoming="stack")

CHAINS = {
    "full": [FULL],
    "full, full": [FULL, FULL],
    "full, lora": [FULL, LORA],
    "lora, continue": [LORA, CONTINUE],
    "lora, merge": [LORA, MERGE],
    "lora, merge and fresh": [LORA, MERGE_FRESH],
    "lora, merge and fresh, continue": [LORA, MERGE_FRESH, CONTINUE],
    "lora, stack": [LORA, STACK],
    "rslora, stack, stack": [RSLORA, STACK, STACK],
    "lora, stack, continue": [LORA, STACK, CONTINUE],
    "lora, stack, merge": [LORA, STACK, MERGE],
    "dora, continue": [DORA, CONTINUE],
    "dora, merge": [DORA, MERGE],
    "attention, merge and fresh": [ATTENTION, ATTENTION.model_copy(update={"incoming": "merge"})],
}
Walk = Callable[..., tuple[Artifact, ModelCache]]


@pytest.fixture
def walk(tmp_path: Path, train: Any) -> Walk:
    """Run steps one after the other, in one process or as if each had its own."""

    def walked(
        start: Artifact, steps: list[ModelOptions], *, reload: bool, name: str = "walk"
    ) -> tuple[Artifact, ModelCache]:
        artifact, model_cache = start, ModelCache()
        for number, options in enumerate(steps):
            model_cache = ModelCache() if reload else model_cache
            prepared = load_policy(artifact, model_cache, options, step="x", seed=7)
            torch.manual_seed(number)
            train(prepared.model, rate=0.5)
            artifact = save_model(
                prepared.model,
                tmp_path / name / str(number),
                model_cache=model_cache,
                base=prepared.base,
            )
        return artifact, model_cache

    return walked


@pytest.mark.parametrize(
    ("kind", "chain"),
    [
        *(("llama", chain) for chain in CHAINS),
        *(
            (kind, chain)
            for kind in ("gpt2", "qwen2")
            for chain in ("full", "lora, merge", "lora, merge and fresh, continue", "lora, stack")
        ),
        ("gpt2", "dora, merge"),
        ("moe", "full, full"),
        ("moe", "attention, merge and fresh"),
    ],
)
def test_the_live_model_and_the_reloaded_one_are_the_same_to_the_bit(
    make: Any, walk: Walk, ids: torch.Tensor, differences: Any, kind: str, chain: str
) -> None:
    artifact, model_cache = walk(make(kind), CHAINS[chain], reload=False)
    assert artifact in model_cache
    handed, loaded = load_model(artifact, model_cache), load_model(artifact, ModelCache())
    assert artifact not in model_cache
    assert differences(handed, loaded) == []
    assert torch.equal(handed(ids).logits, loaded(ids).logits)


@pytest.mark.parametrize("chain", CHAINS)
def test_one_process_and_a_process_for_each_step_end_in_the_same_model(
    make: Any, walk: Walk, differences: Any, chain: str
) -> None:
    start = make()
    together, _ = walk(start, CHAINS[chain], reload=False, name="one")
    apart, _ = walk(start, CHAINS[chain], reload=True, name="many")
    assert together.hash == apart.hash
    assert differences(load_model(together, ModelCache()), load_model(apart, ModelCache())) == []


@pytest.mark.parametrize(
    ("stored", "first", "then"),
    [
        (torch.float32, "fp32", "pure_bf16"),
        (torch.float32, "pure_bf16", "fp32"),
        (torch.float32, "bf16", "fp32"),
        (torch.bfloat16, "fp32", "bf16"),
        (torch.bfloat16, "bf16", "pure_bf16"),
        (torch.bfloat16, "pure_bf16", "fp32"),
    ],
)
@pytest.mark.parametrize(("options", "trainable"), [(FULL, True), (FULL, False), (DORA, False)])
def test_precision_is_what_this_step_says_whatever_came_before(
    make: Any,
    tmp_path: Path,
    ids: torch.Tensor,
    differences: Any,
    stored: torch.dtype,
    first: Precision,
    then: Precision,
    options: ModelOptions,
    trainable: bool,
) -> None:
    model_cache = ModelCache()
    before = load_policy(
        make("llama", dtype=stored),
        model_cache,
        options.model_copy(update={"precision": first}),
        step="x",
        seed=7,
    )
    with torch.no_grad():
        for parameter in before.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    artifact = save_model(before.model, tmp_path / "out", model_cache=model_cache, base=before.base)
    handed = load_model(artifact, model_cache, precision=then, trainable=trainable)
    loaded = load_model(artifact, ModelCache(), precision=then, trainable=trainable)
    assert differences(handed, loaded) == []
    assert torch.equal(handed(ids).logits, loaded(ids).logits)
    whole = [p.dtype for n, p in handed.named_parameters() if ".lora_" not in n]
    asked = {"fp32": torch.float32, "pure_bf16": torch.bfloat16}
    asked["bf16"] = torch.float32 if trainable else torch.bfloat16
    assert set(whole) == {asked[then]}
    assert {p.dtype for n, p in handed.named_parameters() if ".lora_" in n} <= {torch.float32}


def test_a_live_model_that_is_coarser_than_its_files_is_not_handed_over(
    make: Any, tmp_path: Path
) -> None:
    start, model_cache = make(), ModelCache()
    coarse = load_model(start, model_cache, precision="pure_bf16")
    model_cache.keep(start, coarse)
    fine = load_model(start, model_cache, precision="fp32")
    assert fine is not coarse
    assert torch.equal(fine.lm_head.weight, load_model(start, ModelCache()).lm_head.weight)


def test_the_live_model_is_the_very_object_and_is_moved_not_shared(make: Any) -> None:
    start, model_cache = make(), ModelCache()
    model = load_model(start, model_cache)
    model_cache.keep(start, model)
    assert load_model(start, model_cache) is model
    assert start not in model_cache


def test_loading_leaves_the_random_numbers_of_the_step_alone(make: Any, tmp_path: Path) -> None:
    start = make()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    prepared = load_policy(start, ModelCache(), LORA, step="x", seed=7)
    artifact = save_model(
        prepared.model, tmp_path / "out", model_cache=ModelCache(), base=prepared.base
    )
    load_model(artifact, ModelCache())
    assert torch.equal(torch.rand(3), expected)


def test_an_attention_kernel_is_this_steps_own(make: Any) -> None:
    start, model_cache = make(), ModelCache()
    model_cache.keep(start, load_model(start, model_cache, attn_implementation="eager"))
    model = load_model(start, model_cache)
    assert model.config._attn_implementation == "sdpa"
    model_cache.keep(start, model)
    assert (
        load_model(start, model_cache, attn_implementation="eager").config._attn_implementation
        == "eager"
    )
