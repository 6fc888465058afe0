from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from aligner.models.load import load_model
from aligner.run.durable import hash_tree
from aligner.state import ModelCache

LORA = "adapter: {method: lora, r: 2, lora_alpha: 4, lora_dropout: 0.1}"
MODELS = ("model.safetensors", "config.json")


def models_of(runs: Path) -> dict[str, Any]:
    """Every model and tokenizer file of a run, by step and name: hashed, settings of adapters read."""
    found: dict[str, Any] = {}
    for step in sorted((runs / "chain" / "steps").iterdir()):
        for name, digest in hash_tree(step.resolve()).items():
            if name.endswith("adapter_config.json"):
                settings = json.loads((step / name).read_text())
                # Where the weights below lie on this machine, for those who load with peft.
                settings.pop("base_model_name_or_path")
                found[f"{step.name}/{name}"] = settings
            elif name.endswith(MODELS) or "tokenizer" in name:
                found[f"{step.name}/{name}"] = digest
    return found


CHAINS = {
    "full": [("sft", []), ("reward", []), ("dpo", [])],
    "lora continued": [("sft", [LORA]), ("reward", [LORA]), ("dpo", [])],
    "lora merged": [("sft", [LORA]), ("dpo", ["incoming: merge"])],
    "lora stacked": [("sft", [LORA]), ("dpo", ["incoming: stack", LORA])],
}
DATA = {"sft": "talks.jsonl", "reward": "pairs.jsonl", "dpo": "pairs.jsonl"}


@pytest.mark.parametrize("kind", CHAINS)
def test_a_chain_in_one_process_equals_one_step_per_process(kind: str, chains: Any) -> None:
    steps = [chains.step(stage, DATA[stage], *options) for stage, options in CHAINS[kind]]
    chains.run(*steps, runs="together")
    for step in ["pretrain", "chat", *(stage for stage, _ in CHAINS[kind])]:
        # Nothing live is handed on: each call reads what the one before it has saved.
        chains.run(*steps, runs="apart", until=step)
    together, apart = (models_of(chains.folder / runs) for runs in ("together", "apart"))
    assert len(together) >= 2 * len(steps)
    assert together == apart


def test_a_step_after_an_evaluation_is_the_same_as_without_it(chains: Any) -> None:
    sft, dpo = chains.step("sft", "talks.jsonl"), chains.step("dpo", "pairs.jsonl")
    look = "  - stage: evaluate\n    conversations: talks.jsonl\n"
    without, with_it = chains.run(sft, dpo, runs="a"), chains.run(sft, look, dpo, runs="b")
    assert without.state.policy.hash == with_it.state.policy.hash


@pytest.mark.parametrize("options", [[], [LORA]], ids=["full", "lora"])
def test_nothing_of_a_trainer_stays_on_the_model(options: list[str], chains: Any) -> None:
    outcome = chains.run(
        chains.step("sft", "talks.jsonl", *options), chains.step("dpo", "pairs.jsonl")
    )
    model = outcome.model_cache.take(outcome.state.policy)
    fresh = load_model(outcome.state.policy, ModelCache())
    assert describe(model) == describe(fresh)
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, fresh(ids).logits)


def describe(model: nn.Module) -> dict[str, Any]:
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return {
        "training": [name for name, module in model.named_modules() if module.training],
        "patched": [name for name, module in model.named_modules() if "forward" in vars(module)],
        "hooks": [
            name
            for name, module in model.named_modules()
            if module._forward_pre_hooks or module._backward_hooks
        ],
        "dropout": [m.p for m in model.modules() if isinstance(m, nn.Dropout)],
        "adapters": sorted(model.peft_config) if isinstance(model, PeftModel) else [],
        "cache": whole.config.use_cache,
        "prepared": hasattr(whole, "_is_accelerate_prepared"),
        "checkpointing": whole.is_activation_checkpointing,
        "gradients": [name for name, p in model.named_parameters() if p.grad is not None],
        "generation": whole.generation_config.to_dict(),
        "dtypes": {name: p.dtype for name, p in model.named_parameters()},
    }


def weights(artifact: Any) -> dict[str, torch.Tensor]:
    folder = Path(artifact.adapters[-1] if artifact.adapters else artifact.path)
    [file] = folder.glob("*.safetensors")
    return load_file(file)


def test_full_training_moves_every_weight_it_trains(chains: Any) -> None:
    before = chains.run(until="chat").state.policy
    after = chains.run(chains.step("sft", "talks.jsonl")).state.policy
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    assert [name for name in old if torch.equal(old[name], new[name])] == []


def test_an_adapter_moves_and_the_weights_below_it_do_not(chains: Any) -> None:
    sft = chains.step("sft", "talks.jsonl", LORA)
    first = chains.run(sft).state.policy
    second = chains.run(sft, chains.step("dpo", "pairs.jsonl")).state.policy
    assert (second.path, len(second.adapters)) == (first.path, 1)
    old, new = weights(first), weights(second)
    assert [name for name in old if torch.equal(old[name], new[name])] == []


def test_a_stacked_adapter_leaves_the_one_below_it_as_it_was(chains: Any) -> None:
    sft = chains.step("sft", "talks.jsonl", LORA)
    first = chains.run(sft).state.policy
    second = chains.run(
        sft, chains.step("dpo", "pairs.jsonl", "incoming: stack", LORA)
    ).state.policy
    assert second.adapters[:-1] == first.adapters
    assert second.path == first.path


def test_a_reward_model_leaves_the_policy_alone_and_brings_its_head_back(chains: Any) -> None:
    sft = chains.step("sft", "talks.jsonl")
    before = chains.run(sft).state
    after = chains.run(sft, chains.step("reward", "pairs.jsonl")).state
    assert after.policy == before.policy
    model = load_model(after.reward, ModelCache(), reward=True)
    saved = weights(after.reward)
    assert torch.equal(model.score.weight, saved["score.weight"])
    assert model.score.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("first", "second"), [("fp32", "bf16"), ("bf16", "fp32")], ids=["fp32-bf16", "bf16-fp32"]
)
def test_each_step_computes_in_its_own_precision_whatever_came_before(
    first: str, second: str, chains: Any, losses: Any
) -> None:
    """The same DPO after an SFT in another precision has the loss curve of its own precision."""
    sft = chains.step("sft", "talks.jsonl", "precision: fp32")
    dpo = chains.step("dpo", "pairs.jsonl", f"precision: {second}")
    between = chains.step("sft", "talks.jsonl", "as: between", f"precision: {first}")
    model_cache = losses(chains.run(sft, between, dpo, runs="live"), "dpo")
    for step in ("sft", "between", "dpo"):
        apart = chains.run(sft, between, dpo, runs="apart", until=step)
    assert model_cache == losses(apart, "dpo")
    other = "fp32" if second == "bf16" else "bf16"
    swapped = chains.run(sft, between, dpo, runs="live", sets=[f"dpo.precision={other}"])
    assert losses(swapped, "dpo") != model_cache


def test_a_chain_starts_no_process_and_leaves_the_environment(chains: Any) -> None:
    before = dict(os.environ)
    chains.run(chains.step("sft", "talks.jsonl"))
    assert dict(os.environ) == before
