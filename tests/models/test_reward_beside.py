"""A reward model on the policy's own weights scores as it does alone, and leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aligner.models.load import load_model
from aligner.models.model_info import model_info, plan_training, reward_info
from aligner.models.options import Adapter, ModelOptions
from aligner.models.policy import PreparedModel, load_policy
from aligner.models.reference import reference_of
from aligner.models.reward import RewardParts, load_reward, load_reward_to_train, split_reward_model
from aligner.models.save import save_model
from aligner.models.shared_reward import REWARD, can_share_backbone, shared_reward
from aligner.state import Artifact, ModelCache

FULL = ModelOptions()
LORA = ModelOptions(adapter=Adapter(r=2, lora_dropout=0.1))
CONTINUED = ModelOptions()
STACKED = ModelOptions(adapter=Adapter(r=3), incoming="stack")
MERGED = ModelOptions(adapter=Adapter(r=3), incoming="merge")


class Pair:
    """A policy and a reward model that were made from one model."""

    def __init__(self, start: Artifact, folder: Path, train: Any) -> None:
        self.start, self.folder, self.train = start, folder, train

    def reward(self, options: ModelOptions = LORA, *, of: Artifact | None = None) -> Artifact:
        prepared = load_reward_to_train(
            of or self.start, ModelCache(), options, step="r", seed=7, pad=0
        )
        self.train(prepared.model, rate=0.1)
        return save_model(
            prepared.model, self.folder / "r", model_cache=ModelCache(), base=prepared.base
        )

    def policy(self, options: ModelOptions) -> Artifact:
        prepared = load_policy(self.start, ModelCache(), options, step="s", seed=7)
        self.train(prepared.model)
        return save_model(
            prepared.model, self.folder / "p", model_cache=ModelCache(), base=prepared.base
        )


@pytest.fixture
def pair(make: Any, train: Any, tmp_path: Path) -> Any:
    return lambda kind="llama": Pair(make(kind), tmp_path, train)


def scores(parts: RewardParts, ids: torch.Tensor) -> torch.Tensor:
    """The score at the last token of each row."""
    with torch.no_grad(), parts.active():
        hidden_BTH = parts.trunk(input_ids=ids, use_cache=False).last_hidden_state
        figures_B1: torch.Tensor = parts.head(hidden_BTH[:, -1])
    return figures_B1[:, 0]


def prepare(artifact: Artifact, options: ModelOptions) -> PreparedModel:
    return load_policy(artifact, ModelCache(), options, step="ppo", seed=3)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_it_scores_as_it_does_alone_with_dropout_off(
    pair: Any, ids: torch.Tensor, kind: str, method: str
) -> None:
    made = pair(kind)
    reward = made.reward(ModelOptions(adapter=Adapter(r=2, lora_dropout=0.5, method=method)))
    prepared = prepare(made.start, LORA)
    alone = scores(split_reward_model(load_reward(reward, ModelCache())), ids)
    found = shared_reward(prepared, reward, ModelCache())
    assert found is not None
    prepared.model.train()  # as a trainer would leave it
    torch.testing.assert_close(scores(found, ids), alone, atol=1e-5, rtol=0)
    assert prepared.model.training
    base = scores(RewardParts(trunk=found.trunk, head=found.head), ids)
    assert not torch.allclose(base, alone, atol=1e-3), "without its adapter it scores otherwise"


@pytest.mark.parametrize("options", [CONTINUED, STACKED], ids=["continued", "stacked"])
def test_it_scores_the_same_below_adapters_that_were_trained_before(
    pair: Any, ids: torch.Tensor, options: ModelOptions, train: Any
) -> None:
    """Also with modules that the policy's adapter replaces, and after the policy has moved."""
    made = pair("qwen2")
    reward = made.reward()
    wider = ModelOptions(adapter=Adapter(r=2, modules_to_save=("embed_tokens",)))
    policy = made.policy(LORA if options is STACKED else wider)
    prepared = prepare(policy, options)
    reference = reference_of(prepared)
    found = shared_reward(prepared, reward, ModelCache())
    assert found is not None
    alone = scores(split_reward_model(load_reward(reward, ModelCache())), ids)
    torch.testing.assert_close(scores(found, ids), alone, atol=1e-5, rtol=0)
    train(prepared.model)
    torch.testing.assert_close(scores(found, ids), alone, atol=1e-5, rtol=0)
    incoming: Any = load_model(policy, ModelCache())
    with reference.active() as model, torch.no_grad():
        torch.testing.assert_close(model(ids).logits, incoming(ids).logits, atol=1e-5, rtol=0)


def test_the_policy_computes_trains_and_is_saved_as_without_it(
    pair: Any, ids: torch.Tensor, tmp_path: Path, train: Any, differences: Any
) -> None:
    made = pair()
    reward = made.reward()
    plain, shared = prepare(made.start, LORA), prepare(made.start, LORA)
    parts = shared_reward(shared, reward, ModelCache())
    assert parts is not None
    foreign = {n: p for n, p in shared.model.named_parameters() if f".{REWARD}." in n}
    before = {name: parameter.detach().clone() for name, parameter in foreign.items()}
    assert foreign
    for prepared in (plain, shared):
        prepared.model.eval()
        torch.manual_seed(0)
        train(prepared.model)
    scores(parts, ids)
    trained = {n for n, p in shared.model.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in plain.model.named_parameters() if p.requires_grad}
    assert all(torch.equal(before[name], parameter) for name, parameter in foreign.items())
    saved = [
        save_model(item.model, tmp_path / name, model_cache=ModelCache(), base=item.base)
        for name, item in (("plain", plain), ("shared", shared))
    ]
    assert saved[0].hash == saved[1].hash
    assert differences(shared.model, plain.model) == []


def test_what_lies_in_memory_is_let_go_of_and_the_files_stay(pair: Any) -> None:
    made = pair()
    reward = made.reward()
    model_cache = ModelCache()
    model_cache.keep(reward, load_reward(reward, ModelCache()))
    files = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    assert shared_reward(prepare(made.start, LORA), reward, model_cache) is not None
    assert reward not in model_cache
    assert files == {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("policy", "options", "reward", "shared"),
    [
        ("start", LORA, "adapter", True),
        ("lora", CONTINUED, "adapter", True),
        ("lora", STACKED, "adapter", True),
        ("start", FULL, "adapter", False),
        ("lora", MERGED, "adapter", False),
        ("full", LORA, "adapter", False),
        ("start", LORA, "full", False),
        ("start", LORA, "adapter on the policy", False),
        ("start", LORA, "adapter with more", False),
    ],
)
def test_the_plan_knows_whether_weights_are_shared(
    pair: Any, policy: str, options: ModelOptions, reward: str, shared: bool
) -> None:
    """A policy that is trained whole, merged or another one, or a reward model with weights of its own."""
    made = pair()
    start = {"start": lambda: made.start, "lora": lambda: made.policy(LORA)}.get(
        policy, lambda: made.policy(FULL)
    )()
    below = made.start
    if reward == "adapter on the policy":
        below = made.policy(LORA)
    how = {
        "full": FULL,
        "adapter with more": ModelOptions(adapter=Adapter(r=2, modules_to_save=("embed_tokens",))),
    }.get(reward, LORA)
    planned = plan_training(reward_info(model_info(below)), how).after
    training = plan_training(model_info(start), options)
    assert can_share_backbone(training, planned, quantize=None) == shared
    assert not can_share_backbone(training, planned, quantize="nf4")
    model_cache = ModelCache()
    scored = made.reward(how, of=below)
    model_cache.keep(scored, "kept")
    found = shared_reward(prepare(start, options), scored, model_cache)
    assert (found is not None) == shared
    assert (scored in model_cache) == (not shared)
