"""One backbone for policy, reference, value and reward gives what separate models give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aligner.api import Recipe, Result
from aligner.models.load import load_model
from aligner.models.reward import load_reward
from aligner.models.shared_reward import REWARD
from aligner.rl import run as online
from aligner.run.durable import hash_tree
from aligner.state import ModelCache
from aligner.testing import conversations, preferences, prompts, write_files, write_tiny
from aligner_ppo.stage import PPO
from aligner_reward.stage import Reward
from aligner_sft.stage import SFT

LORA = {"adapter": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2}}
TRAINING = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 5e-2,
    "precision": "fp32",
}
SMALL = {
    "data": "prompts.jsonl",
    "iterations": 3,
    "prompts": 4,
    "num_generations": 2,
    "num_mini_batches": 2,
    "num_ppo_epochs": 2,
    "max_new_tokens": 6,
    "learning_rate": 1e-2,
    "value_learning_rate": 1e-2,
    "precision": "fp32",
    "hold_out": 0.3,
}
OWN = "reward: a separate model; it reads text through its own tokenizer and template"
SHARED = (
    "reward: an adapter on the policy's frozen weights; it reads text through its own tokenizer and "
    "template"
)


def recipe(folder: Path, *, reward: dict[str, Any], sft: bool, **more: Any) -> Recipe:
    """A reward model of the model that the chain begins with, then perhaps SFT, then PPO.

    The reward model is made after SFT where it names its base, since it would else begin from SFT's.
    """
    write_files(
        folder,
        {
            "prompts.jsonl": prompts(8),
            "pairs.jsonl": preferences(),
            "talks.jsonl": conversations(),
        },
    )
    write_tiny(folder / "tiny-model")
    steps: list[Any] = [Reward(Reward.Options(**TRAINING, **reward, data="pairs.jsonl"))]
    if sft:
        steps.insert(
            0 if "base" in reward else 1, SFT(SFT.Options(**TRAINING, **LORA, data="talks.jsonl"))
        )
    steps.append(PPO(PPO.Options(**(SMALL | more))))
    return Recipe(steps, model=folder / "tiny-model", name="one", seed=7, folder=folder)


def run(folder: Path, runs: str = "runs", **how: Any) -> Result:
    return recipe(folder, **how).run(runs=folder / runs, show=False)


CHAINS = [
    pytest.param({"sft": False, **LORA}, id="fresh adapter"),
    pytest.param({"sft": True, "value": "adapter"}, id="continued adapter, its copy, values"),
    pytest.param({"sft": True, "incoming": "stack", **LORA}, id="stacked adapters"),
    pytest.param({"sft": False, "value_from": "reward", **LORA}, id="values from the reward"),
    pytest.param({"sft": True, "reward": LORA | {"base": "tiny-model"}}, id="base by name"),
]


@pytest.mark.parametrize("how", CHAINS)
def test_a_shared_backbone_gives_the_policy_that_separate_models_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    """Every metric of every iteration as well, the first ones to 1e-5."""
    shared_parts: list[Any] = []
    found = online.shared_reward

    def watched(*args: Any, **more: Any) -> Any:
        shared_parts.append(found(*args, **more))
        return shared_parts[-1]

    monkeypatch.setattr(online, "shared_reward", watched)
    how = {"reward": LORA} | how
    shared = run(tmp_path, **how)
    assert SHARED in recipe(tmp_path, **how).check(runs=tmp_path / "runs").plans["ppo"].notes
    assert [parts is not None for parts in shared_parts] == [True]
    monkeypatch.setattr(online, "shared_reward", lambda *_, **__: None)
    separate = run(tmp_path, "apart", **how)
    for first, second in zip(*(curves(result) for result in (shared, separate)), strict=True):
        assert first == pytest.approx(second, rel=1e-3, abs=1e-4)
    first, alone = (curves(result)[0] for result in (shared, separate))
    for name in ("reward_model", "reward_deviation", "kl", "value", "entropy"):
        assert first[name] == pytest.approx(alone[name], abs=1e-5), name
    weights = [policy_weights(result) for result in (shared, separate)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-3, atol=1e-4)


def curves(result: Result) -> list[dict[str, float]]:
    lines = (result["ppo"].folder / "metrics.jsonl").read_text().splitlines()
    left_out = {"done", "total", "unit", "tokens_per_second"}
    return [{k: v for k, v in json.loads(line).items() if k not in left_out} for line in lines]


def policy_weights(result: Result) -> dict[str, torch.Tensor]:
    return load_file(result["ppo"].folder / "policy" / "adapter_model.safetensors")


def test_the_reward_model_is_unchanged_and_nothing_of_it_stays_on_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train = online.train

    def watched(rl: Any, run: Any) -> Any:
        names = [name for name, _ in rl.actor.policy.named_parameters()]
        assert any(f".{REWARD}." in name for name in names), (
            "the reward adapter is on the policy in training"
        )
        trained.extend(rl.optimizer.parameters)
        return train(rl, run)

    monkeypatch.setattr(online, "train", watched)
    chain = recipe(tmp_path, reward=LORA, sft=True, value="adapter")
    before = chain.run(runs=tmp_path / "runs", show=False, until="reward")
    files = hash_tree(before["reward"].folder)
    after = chain.run(runs=tmp_path / "runs", show=False)
    assert trained
    assert not any(REWARD in name for name in trained)
    assert after.state.reward == before.state.reward
    assert hash_tree(before["reward"].folder) == files
    policy = after.model_cache.take(after.state.policy)
    assert list(policy.peft_config) == ["default"]
    assert not any(REWARD in name for name, _ in policy.named_parameters())
    fresh = load_model(after.state.policy, ModelCache())
    assert {n for n, _ in policy.named_modules()} == {n for n, _ in fresh.named_modules()}
    saved = "\n".join(p.read_text() for p in after["ppo"].folder.rglob("*.json"))
    assert REWARD not in saved
    assert not any(
        REWARD in name
        for path in after["ppo"].folder.rglob("*.safetensors")
        for name in load_file(path)
    )
    assert load_reward(after.state.reward, after.model_cache) is not None


@pytest.mark.parametrize(
    ("reward", "more", "note"),
    [
        (LORA, LORA, SHARED),
        (LORA, {}, OWN),
        ({}, LORA, OWN),
    ],
    ids=["both adapters", "policy trained whole", "reward trained whole"],
)
def test_the_plan_names_the_backbone_of_the_reward_model(
    tmp_path: Path, reward: dict[str, Any], more: dict[str, Any], note: str
) -> None:
    plan = recipe(tmp_path, reward=reward, sft=False, **more).check(runs=tmp_path / "runs")
    notes = plan.plans["ppo"].notes
    assert note in notes


def test_the_forecast_of_memory_counts_a_shared_backbone_once(tmp_path: Path) -> None:
    """The reward model's adapter and head alone, in 32 bits, against its 11,000 weights and more."""
    held = {}
    for name, reward in (("shared", LORA), ("own", {})):
        chain = recipe(tmp_path, reward=reward, sft=False, **LORA)
        notes = chain.check(runs=tmp_path / "runs").plans["ppo"].notes
        [memory] = [note for note in notes if note.startswith("memory: ")]
        held[name] = float(memory.partition("reward ")[2].removesuffix(" MiB)"))
    result = run(tmp_path, reward=LORA, sft=False, **LORA)
    adapter = load_file(result["reward"].folder / "reward" / "adapter_model.safetensors")
    expected = sum(tensor.numel() for tensor in adapter.values()) * 4 / 2**20
    assert held["shared"] == pytest.approx(expected, rel=0.05)
    assert held["own"] > 3 * held["shared"]
