"""The reference is the policy as the step found it, for every mixture of weights and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from aligner.models.adapters import REFERENCE
from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions
from aligner.models.policy import load_policy
from aligner.models.reference import describe_reference, frozen_copy, reference_from, reference_of
from aligner.models.restore import restore_model
from aligner.models.save import save_model
from aligner.state import ModelCache

FULL = ModelOptions()
LORA = ModelOptions(adapter=Adapter(r=2, lora_dropout=0.2))
RSLORA = ModelOptions(adapter=Adapter(method="rslora", r=2))
DORA = ModelOptions(adapter=Adapter(method="dora", r=2))
HEAD = ModelOptions(adapter=Adapter(r=2, modules_to_save=("lm_head",)))
CONTINUE = ModelOptions(incoming="continue")
MERGE = ModelOptions(incoming="merge")
MERGE_FRESH = ModelOptions(adapter=Adapter(r=3, lora_dropout=0.2), incoming="merge")
STACK = ModelOptions(adapter=Adapter(r=3, lora_dropout=0.2), incoming="stack")

COMBINATIONS = {
    "full": ([], FULL),
    "full to full": ([FULL], FULL),
    "full to lora": ([FULL], LORA),
    "full to dora": ([FULL], DORA),
    "lora to continue": ([LORA], CONTINUE),
    "lora to merge": ([LORA], MERGE),
    "lora to merge and fresh": ([LORA], MERGE_FRESH),
    "lora to stack": ([LORA], STACK),
    "rslora to continue": ([RSLORA], CONTINUE),
    "dora to continue": ([DORA], CONTINUE),
    "dora to merge": ([DORA], MERGE),
    "stack to stack": ([LORA, STACK], STACK),
    "stack to continue": ([LORA, STACK], CONTINUE),
    "stack to merge and fresh": ([LORA, STACK], MERGE_FRESH),
}
WHOLE_HEAD = {"head to continue": ([HEAD], CONTINUE), "head to merge": ([HEAD], MERGE)}


def step_into(start: Any, before: list[ModelOptions], folder: Path, train: Any) -> Any:
    """The artifact and live weights after `before`."""
    artifact, model_cache = start, ModelCache()
    for number, options in enumerate(before):
        prepared = load_policy(artifact, model_cache, options, step=f"step{number}", seed=7)
        train(prepared.model)
        artifact = save_model(
            prepared.model, folder / str(number), model_cache=model_cache, base=prepared.base
        )
    return artifact, model_cache


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(ids).logits
    return logits


@pytest.mark.parametrize(
    ("kind", "combination"),
    [
        *(("llama", combination) for combination in COMBINATIONS),
        *(
            ("gpt2", combination)
            for combination in ("lora to continue", "lora to stack", "full to dora")
        ),
        ("moe", "full to full"),
        *(("qwen2", combination) for combination in WHOLE_HEAD),  # the others' heads are tied
    ],
)
def test_the_reference_is_the_incoming_policy_and_stays_it(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor, kind: str, combination: str
) -> None:
    before, options = (COMBINATIONS | WHOLE_HEAD)[combination]
    artifact, model_cache = step_into(make(kind), before, tmp_path, train)
    incoming = logits_of(load_model(artifact, ModelCache()), ids)
    prepared = load_policy(artifact, model_cache, options, step="now", seed=7)
    reference = reference_of(prepared)
    policy = logits_of(prepared.model, ids)
    with reference.active() as model:
        assert not model.training
        assert torch.equal(model(ids).logits, policy)
        assert not model(ids).logits.requires_grad
    # A merge adds in another order than the adapters do; nothing else rounds.
    close = prepared.adapter_plan.startswith("merge")
    assert torch.allclose(policy, incoming, atol=1e-5) if close else torch.equal(policy, incoming)
    train(prepared.model)
    assert not torch.equal(logits_of(prepared.model, ids), policy)
    with reference.active() as model:
        assert torch.equal(model(ids).logits, policy)
    reference.close()
    peft: Any = getattr(prepared.model, "peft_config", {})
    assert REFERENCE not in peft
    assert not [name for name, _ in prepared.model.named_parameters() if REFERENCE in name]


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_first_dpo_loss_of_any_chain_is_ln_2(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor, combination: str
) -> None:
    """-log sigmoid(beta * (policy margin - reference margin)) = -log sigmoid(0) = ln 2."""
    before, options = COMBINATIONS[combination]
    artifact, model_cache = step_into(make(), before, tmp_path, train)
    prepared = load_policy(artifact, model_cache, options, step="now", seed=7)
    reference = reference_of(prepared)

    def margin(model: Any) -> torch.Tensor:
        logps_BT = model(ids).logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        chosen, rejected = logps_BT.sum(1)
        return chosen - rejected

    with reference.active() as model:
        held_to = margin(model)
    loss = -logsigmoid(0.1 * (margin(prepared.model) - held_to))
    assert abs(loss.item() - 0.6931472) < 1e-6
    loss.backward()


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_asking_the_reference_in_the_middle_of_a_step_changes_no_update(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor, combination: str
) -> None:
    before, options = COMBINATIONS[combination]
    artifact, _ = step_into(make(), before, tmp_path, train)
    ends = []
    for asks in (False, True):
        prepared = load_policy(artifact, ModelCache(), options, step="now", seed=7)
        model = prepared.model
        reference = reference_of(prepared)
        model.train()
        flags = [parameter.requires_grad for parameter in model.parameters()]
        torch.manual_seed(3)
        loss = model(ids, labels=ids).loss
        if asks:
            with reference.active() as frozen:
                frozen(ids)
            assert model.training
            assert [parameter.requires_grad for parameter in model.parameters()] == flags
        loss.backward()
        ends.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert any(grad.any() for grad in ends[0].values())


def test_a_reference_is_not_trained_nor_saved_with_the_policy(
    make: Any, train: Any, tmp_path: Path, differences: Any
) -> None:
    artifact, model_cache = step_into(make(), [LORA], tmp_path, train)
    prepared = load_policy(artifact, model_cache, CONTINUE, step="now", seed=7)
    reference_of(prepared)
    copies = [p for n, p in prepared.model.named_parameters() if REFERENCE in n]
    assert copies
    assert not any(parameter.requires_grad for parameter in copies)
    train(prepared.model)
    saved = save_model(
        prepared.model, tmp_path / "out", model_cache=model_cache, base=prepared.base
    )
    assert differences(load_model(saved, model_cache), load_model(saved, ModelCache())) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_an_error_inside_the_reference_leaves_the_policy_as_it_was(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor
) -> None:
    artifact, model_cache = step_into(make(), [LORA], tmp_path, train)
    prepared = load_policy(artifact, model_cache, STACK, step="now", seed=7)
    train(prepared.model)
    expected = logits_of(prepared.model, ids)
    with pytest.raises(ZeroDivisionError), reference_of(prepared).active():
        _ = 1 / 0
    assert torch.equal(logits_of(prepared.model, ids), expected)
    assert any(parameter.requires_grad for parameter in prepared.model.parameters())


def test_a_frozen_copy_shares_nothing_with_the_policy(make: Any, ids: torch.Tensor) -> None:
    prepared = load_policy(make(), ModelCache(), FULL, step="now", seed=7)
    twin = frozen_copy(restore_model(prepared.model))
    expected = logits_of(prepared.model, ids)
    with torch.no_grad():
        for parameter in prepared.model.parameters():
            parameter.zero_()
    assert torch.equal(logits_of(twin, ids), expected)
    assert not any(parameter.requires_grad for parameter in twin.parameters())


def test_another_model_can_be_the_reference(make: Any, ids: torch.Tensor) -> None:
    start = make()
    prepared = load_policy(start, ModelCache(), LORA, step="now", seed=7)
    reference = reference_from(start, ModelCache(), prepared.model)
    with reference.active() as model:
        assert torch.equal(model(ids).logits, logits_of(prepared.model, ids))
    reference.close()


def test_the_plan_says_which_model_is_the_reference() -> None:
    assert [
        describe_reference(how, "sft") for how in ("full", "merge", "fresh", "stack", "continue")
    ] == [
        "sft's policy (frozen copy)",
        "sft's policy (frozen copy)",
        "sft's policy (new adapter off)",
        "sft's policy (new adapter off)",
        "sft's policy (frozen copy of its adapter)",
    ]
    assert describe_reference("full", "sft", slot_by="model") == "model's reference"
