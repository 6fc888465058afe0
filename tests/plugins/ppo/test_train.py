"""The whole algorithm on tiny models: laws it obeys, and tasks whose optimum is known."""

from __future__ import annotations

import json

import pytest
import torch

from aligner.errors import StageError
from aligner_ppo import update as update_module
from aligner_ppo.checkpoint import PPOProgress
from aligner_ppo.experience import AdvantageTargets
from aligner_ppo.train import iterate, learn

KINDS = ["model", "head"]
LORA = {"adapter": {"r": 4, "lora_alpha": 8}}


def weights(setting) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in setting.learner.parameters.items()}


def moved(before, after) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def seen_by_update(monkeypatch) -> list[dict[str, float]]:
    """The metrics of every micro-batch, in order."""
    seen = []
    backward = update_module._backward

    def listening(*args, **kwargs):
        found = backward(*args, **kwargs)
        seen.append({name: float(value) for name, value in found.items()})
        return found

    monkeypatch.setattr(update_module, "_backward", listening)
    return seen


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("model", {}),
        ("head", {}),
        ("head", LORA),
        ("adapter", LORA),
        ("adapter", LORA | {"sampler": "continuous_batching"}),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_ratio_is_exactly_one(make, monkeypatch, kind, more, temperature) -> None:
    """With one minibatch of one micro-batch the mean ratio of the first step is 1.0 to the bit."""
    setting, run = make(
        parts={"kind": kind},
        temperature=temperature,
        minibatches=1,
        micro_batch_size=16,
        **more,
    )
    seen = seen_by_update(monkeypatch)
    iterate(setting, PPOProgress(kl_coefficient=0.05), run)
    assert seen[0]["ratio"] == 1.0
    assert seen[0]["step_kl"] == 0.0
    assert seen[0]["clip_fraction"] == 0.0
    assert seen[1]["ratio"] != 1.0


def test_while_nothing_moves_every_ratio_of_the_first_pass_is_one(make, monkeypatch) -> None:
    """The learning rate is too small to change a weight; micro-batches of unequal width add up."""
    setting, run = make(epochs=1, learning_rate=1e-30, value_learning_rate=1e-30)
    seen = seen_by_update(monkeypatch)
    iterate(setting, PPOProgress(kl_coefficient=0.05), run)
    assert len(seen) == 6
    assert sum(one["ratio"] for one in seen) == pytest.approx(2.0, abs=1e-7)
    assert all(one["step_kl"] == 0.0 for one in seen)


@pytest.mark.parametrize(("kind", "more"), [("model", {}), ("adapter", LORA)])
def test_with_zero_advantage_the_policy_does_not_move(make, monkeypatch, kind, more) -> None:
    """Whatever the value function learns meanwhile."""
    setting, run = make(parts={"kind": kind}, **more)

    def nothing(rollouts, final_N, measured, config, *, coefficient):
        zero_NR = torch.zeros_like(measured.values_NR)
        return AdvantageTargets(advantages_NR=zero_NR, returns_NR=zero_NR + 1.0)

    monkeypatch.setattr("aligner_ppo.train.targets_of", nothing)
    before = weights(setting)
    iterate(setting, PPOProgress(kl_coefficient=0.05), run)
    changed = moved(before, weights(setting))
    assert changed
    assert all(name.startswith("value/") for name in changed)


def test_without_reward_and_without_kl_nothing_is_learnt_but_zero(make) -> None:
    """Equal scores, values of zero: every advantage is 0, so no weight of the policy moves."""
    setting, run = make(kl_coefficient=0.0, parts={"table": {"w5": 0.0}})
    before = weights(setting)
    learn(setting, run)
    assert not {name for name in moved(before, weights(setting)) if name.startswith("policy/")}


@pytest.mark.parametrize("seed", range(5))
def test_the_best_arm_is_found_on_every_seed(make, tiny, seed) -> None:
    """One token a response, sixteen words: w9 pays 1, w4 pays 0.5, the rest nothing. A
    little entropy bonus keeps w4 from being settled on before w9 has been tried.
    """
    prompts = [[1, 5], [1, 6], [1, 7], [1, 3]]
    setting, run = make(
        seed=seed,
        iterations=30,
        prompts=4,
        samples_per_prompt=16,
        epochs=4,
        minibatches=2,
        micro_batch_size=32,
        max_new_tokens=1,
        kl_coefficient=0.0,
        entropy_bonus=0.003,
        learning_rate=3e-3,
        guards={"unending": None, "entropy": None, "kl": None},
        parts={
            "model": tiny(seed=seed, vocab=16, layers=1, width=16),
            "table": {"w9": 1.0, "w4": 0.5},
            "prompts": prompts,
        },
    )
    learn(setting, run)
    with torch.no_grad():
        masses = setting.actor.policy(torch.tensor(prompts)).logits[:, -1].softmax(-1)
    assert run.metrics["reward_first"] < 0.5
    assert bool((masses[:, 9] > 0.95).all()), masses[:, 9]


@pytest.mark.parametrize("seed", range(5))
def test_with_kl_the_known_optimum_is_reached_on_every_seed(make, tiny, seed) -> None:
    """The policy that maximises E[r] − β·KL is π_ref·exp(r/β)/Z (Ziegler 2019, eq. 2). With β = 0.5
    and w9 paying 1 it makes w9 e² times as likely against the others as the reference has it.
    """
    model = tiny(seed=seed, vocab=16, layers=1, width=16)
    prompts = torch.tensor([[1, 5], [1, 6]])
    with torch.no_grad():
        masses = model(prompts).logits[:, -1].softmax(-1)
    reward = torch.zeros(16)
    reward[9] = 1.0
    optimum = masses * (reward / 0.5).exp()
    optimum = optimum / optimum.sum(-1, keepdim=True)
    setting, run = make(
        seed=seed,
        iterations=40,
        prompts=2,
        samples_per_prompt=64,
        epochs=2,
        minibatches=2,
        micro_batch_size=64,
        max_new_tokens=1,
        kl_coefficient=0.5,
        whiten_advantages=False,
        learning_rate=2e-3,
        schedule="linear",
        guards={"unending": None},
        parts={"model": model, "table": {"w9": 1.0}, "prompts": prompts.tolist()},
    )
    learn(setting, run)
    with torch.no_grad():
        found = setting.actor.policy(prompts).logits[:, -1].softmax(-1)
    distance = (found * (found / optimum).log()).sum(-1)
    start = (masses * (masses / optimum).log()).sum(-1)
    assert bool((distance < 0.02).all()), (distance, start)
    assert bool((distance < start / 5).all()), (distance, start)


def test_micro_batches_change_no_figure(make) -> None:
    found = []
    for size in (1, 3, 16):
        setting, run = make(micro_batch_size=size, iterations=2)
        learn(setting, run)
        found.append((run.metrics, weights(setting)))
    for metrics, after in found[1:]:
        for name, number in found[0][0].items():
            if name != "tokens_per_second":
                assert metrics[name] == pytest.approx(number, abs=2e-4), name
        for name, tensor in found[0][1].items():
            torch.testing.assert_close(after[name], tensor, atol=2e-4, rtol=1e-3)


def test_a_shared_backbone_and_separate_models_agree_where_they_must(make, tiny) -> None:
    """A LoRA policy over a shared trunk, and the same policy merged beside a separate reference: same
    samples, log-probabilities, reference and KL before anything is learnt; and once the LoRA policy has
    learnt, its shared reference still is the model that came in.
    """
    shared, run_a = make(parts={"kind": "adapter"}, **LORA)
    apart, run_b = make(parts={"kind": "model"})
    one, seen_a = iterate(shared, PPOProgress(kl_coefficient=0.05), run_a)
    other, seen_b = iterate(apart, PPOProgress(kl_coefficient=0.05), run_b)
    for name in ("reward", "kl", "entropy", "length", "ended", "value", "explained_variance"):
        assert seen_a[name] == pytest.approx(seen_b[name], abs=1e-5), name
    assert seen_a["kl"] == seen_b["kl"] == 0.0
    _, later = iterate(shared, one, run_a)
    assert later["kl"] != 0.0
    tokens = torch.tensor([[1, 5, 6, 7]])
    with shared.reference.active() as reference:
        found = reference(tokens).logits
    torch.testing.assert_close(found, tiny()(tokens).logits, atol=1e-5, rtol=1e-4)
    assert other.iteration == 1


def test_the_value_adapter_and_the_policy_adapter_do_not_touch_each_other(make) -> None:
    """Values learn through their adapter, and the policy's log-probabilities do not notice."""
    setting, run = make(parts={"kind": "adapter"}, kl_coefficient=0.0, **LORA)
    before = weights(setting)
    iterate(setting, PPOProgress(kl_coefficient=0.0), run)
    changed = moved(before, weights(setting))
    assert any(name.startswith("policy/") and "lora_B.default" in name for name in changed)
    assert any(name.startswith("value/") and "lora_B.value" in name for name in changed)
    assert not any(name.startswith("policy/") and ".value." in name for name in before)
    frozen = [p for p in setting.actor.policy.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)


@pytest.mark.parametrize(
    "more",
    [
        {"entropy_bonus": 0.01},
        {"bootstrap_truncated": True},
        {"missing_eos_penalty": 1.0, "reward_scale": "running", "reward_clip": 1.0},
        {"kl_target": 1.0, "kl_estimator": "k3"},
        {"kl_estimator": "k2", "value_clip": None, "gamma": 0.9},
        {"schedule": "cosine", "warmup": 0.2, "weight_decay": 0.1},
        {"top_k": 5, "top_p": 0.9, "min_new_tokens": 2},
        {"precision": "bf16"},
    ],
)
def test_every_option_changes_what_is_learnt_and_breaks_nothing(make, more) -> None:
    plain, run = make()
    learn(plain, run)
    other, run_other = make(**more)
    learn(other, run_other)
    assert all(torch.isfinite(p).all() for p in weights(other).values())
    assert moved(weights(plain), weights(other))


@pytest.mark.parametrize(("kind", "more"), [("model", {}), ("head", {}), ("head", LORA)])
def test_recomputed_activations_change_no_figure(make, kind, more) -> None:
    found, passes = [], []
    for recompute in (False, True):
        setting, run = make(
            parts={"kind": kind}, activation_checkpointing=recompute, iterations=1, **more
        )
        count = []
        inner = setting.actor.parts.trunk.layers[0].self_attn
        inner.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        learn(setting, run)
        found.append(weights(setting))
        passes.append(len(count))
        assert not any(module.training for module in setting.actor.policy.modules())
    assert passes[1] == passes[0] + 2 * 2 * 3, "epochs × minibatches × micro-batches, once more"
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, atol=1e-5, rtol=1e-4)


def test_curves_and_samples_are_written(make) -> None:
    setting, run = make(samples_shown=2, samples_every=2)
    learn(setting, run)
    curve = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [one["done"] for one in curve] == [1, 2, 3]
    samples = [json.loads(line) for line in (run.folder / "samples.jsonl").read_text().splitlines()]
    assert [one["iteration"] for one in samples] == [1, 1, 3, 3]
    assert samples[0].keys() == {
        "iteration", "prompt", "response", "ended", "tokens", "reward", "reward_table"
    }  # fmt: skip
    assert run.metrics["reward_first"] == curve[0]["reward"]


def test_a_reward_that_is_no_number_stops_with_samples(make) -> None:
    setting, run = make(parts={"table": {"w5": float("nan")}})
    with pytest.raises(StageError) as stopped:
        learn(setting, run)
    lines = str(stopped.value).splitlines()
    assert lines[0] == "recipe.yaml:7: guard 'not_finite' at iteration 1: reward is no number"
    assert len(lines) == 5
    assert lines[-1] == (
        "  hint: lower learning_rate, and look for rewards that are no numbers; "
        "or set guards.not_finite"
    )


def test_a_batch_without_numbers_is_left_out_where_the_recipe_says_so(make) -> None:
    setting, run = make(parts={"table": {"w5": float("nan")}}, guards={"not_finite": "skip"})
    before = weights(setting)
    progress = learn(setting, run)
    assert progress.watched.skipped == 3
    assert progress.kl_coefficient == 0.05
    assert not moved(before, weights(setting))
    assert run.metrics["skipped"] == 3.0
