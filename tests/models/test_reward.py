"""A reward model is made from a policy without touching it, and its head comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aligner.errors import ModelError
from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions
from aligner.models.policy import load_policy
from aligner.models.reward import load_reward, load_reward_to_train, make_reward
from aligner.models.save import save_model
from aligner.state import ModelCache

FULL = ModelOptions()
LORA = ModelOptions(adapter=Adapter(r=2, lora_dropout=0.1))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("options", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("policy_is", "live_policy"), [("full", True), ("lora", True), ("lora", False)]
)
def test_a_reward_model_is_trained_saved_and_comes_back_with_its_head(
    make: Any,
    train: Any,
    tmp_path: Path,
    ids: torch.Tensor,
    differences: Any,
    kind: str,
    options: ModelOptions,
    policy_is: str,
    live_policy: bool,
) -> None:
    model_cache = ModelCache()
    start = load_policy(
        make(kind), model_cache, LORA if policy_is == "lora" else FULL, step="x", seed=7
    )
    train(start.model)
    policy = save_model(start.model, tmp_path / "p", model_cache=model_cache, base=start.base)
    if not live_policy:
        model_cache.take(policy)
    prepared = load_reward_to_train(policy, model_cache, options, step="r", seed=7, pad=0)
    before = {n: p.detach().clone() for n, p in prepared.model.named_parameters()}
    train(prepared.model, rate=0.1)
    heads = [n for n, p in prepared.model.named_parameters() if "score" in n and p.requires_grad]
    assert len(heads) == 1
    head = dict(prepared.model.named_parameters())[heads[0]]
    assert not torch.equal(head, before[heads[0]])
    reward = save_model(prepared.model, tmp_path / "r", model_cache=model_cache, base=prepared.base)
    assert (reward.adapters == ()) == (options is FULL)
    handed, loaded = load_reward(reward, model_cache), load_reward(reward, ModelCache())
    assert differences(handed, loaded) == []
    metrics = loaded(ids).logits
    assert metrics.shape == (2, 1)
    assert torch.equal(handed(ids).logits, metrics)
    # The policy was not touched, live or saved.
    assert (policy in model_cache) == live_policy
    assert differences(load_model(policy, model_cache), load_model(policy, ModelCache())) == []


def test_a_new_reward_model_has_the_body_of_the_policy(make: Any, ids: torch.Tensor) -> None:
    start = make()
    reward: Any = make_reward(start, ModelCache(), seed=1, pad=0)
    policy: Any = load_model(start, ModelCache())
    assert torch.equal(reward.model(ids).last_hidden_state, policy.model(ids).last_hidden_state)
    assert reward.config.num_labels == 1
    assert reward.config.pad_token_id == 0


def test_the_head_is_small_and_its_seed_decides_it(make: Any) -> None:
    start = make()

    def head(seed: int) -> torch.Tensor:
        model: Any = make_reward(start, ModelCache(), seed=seed, pad=0)
        weight: torch.Tensor = model.score.weight
        return weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))
    many = torch.cat([head(seed).flatten() for seed in range(20)])
    assert abs(many.std().item() - 17**-0.5) < 0.03


def test_the_last_token_that_is_not_padding_is_scored(make: Any) -> None:
    reward: Any = make_reward(make(), ModelCache(), seed=1, pad=0)
    short, padded = torch.tensor([[5, 6, 2]]), torch.tensor([[5, 6, 2, 0, 0]])
    ended, unended = reward(short).logits, reward(torch.tensor([[5, 6]])).logits
    assert torch.allclose(reward(padded).logits, ended, atol=1e-6)
    assert not torch.allclose(ended, unended, atol=1e-4)


def test_an_adapter_on_a_reward_model_is_trained_further_or_merged_and_keeps_its_hash(
    make: Any, train: Any, tmp_path: Path, ids: torch.Tensor
) -> None:
    first = load_reward_to_train(make(), ModelCache(), LORA, step="r", seed=7, pad=0)
    train(first.model, rate=0.1)
    model_cache = ModelCache()
    reward = save_model(first.model, tmp_path / "r", model_cache=model_cache, base=first.base)
    hashes = set()
    for number, owner in enumerate((model_cache, ModelCache())):
        again = load_policy(reward, owner, FULL, step="s", seed=7, reward=True)
        assert again.adapter_plan == "continue"
        torch.manual_seed(1)
        train(again.model, rate=0.1)
        saved = save_model(
            again.model, tmp_path / f"again{number}", model_cache=ModelCache(), base=again.base
        )
        hashes.add(saved.hash)
        saved_logits = load_reward(saved, ModelCache())(ids).logits
        assert torch.equal(again.model(ids).logits, saved_logits)
    assert len(hashes) == 1
    merge = ModelOptions(incoming="merge")
    merged = load_policy(reward, ModelCache(), merge, step="s", seed=7, reward=True).model
    expected = load_reward(reward, ModelCache())(ids).logits
    assert torch.allclose(merged(ids).logits, expected, atol=1e-5)


def test_a_policy_has_no_head_that_scores_and_a_reward_model_none_that_speaks(
    make: Any, tmp_path: Path
) -> None:
    start = make()
    with pytest.raises(ModelError) as refused:
        load_reward(start, ModelCache())
    assert str(refused.value) == (
        f"{start.path} is no reward model: its head has 2 outputs, not one\n"
        "  hint: train a reward model first, or name one with num_labels 1"
    )
    reward = save_model(
        make_reward(start, ModelCache(), seed=1, pad=0), tmp_path / "r", model_cache=ModelCache()
    )
    with pytest.raises(ModelError) as refused:
        load_model(reward, ModelCache())
    assert str(refused.value) == (
        f"{tmp_path / 'r'} contains, besides the model, score.weight\n"
        "  hint: it is another kind of model than this step needs"
    )


def test_a_reward_model_without_its_head_in_the_file_is_refused(make: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    reward = save_model(
        make_reward(make(), ModelCache(), seed=1, pad=0), tmp_path / "r", model_cache=ModelCache()
    )
    file = tmp_path / "r" / "model.safetensors"
    weights = {k: v for k, v in load_file(file).items() if k != "score.weight"}
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError) as refused:
        load_reward(reward, ModelCache())
    assert str(refused.value) == (
        f"{tmp_path / 'r'} lacks score.weight\n  hint: it is another kind of model, or was saved "
        "incompletely; missing weights would be random"
    )
