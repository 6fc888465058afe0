"""PPO on tiny models: its laws, and tasks whose optimum is known."""

from __future__ import annotations

import json

import pytest
import torch

from aligner.errors import StageError
from aligner.rl import update as update_module
from aligner.rl.checkpoint import RLProgress
from aligner.rl.experience import AdvantageTargets
from aligner.rl.loop import train, train_iteration
from aligner_ppo.algorithm import PPOAlgorithm

KINDS = ["model", "head"]
LORA = {"adapter": {"r": 4, "lora_alpha": 8}}


def weights(rl) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in rl.optimizer.parameters.items()}


def moved(before, after) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def seen_by_update(monkeypatch) -> list[dict[str, float]]:
    """The metrics of every micro-batch, in order."""
    seen = []
    backward = update_module.backward

    def listening(*args, **kwargs):
        found = backward(*args, **kwargs)
        seen.append({name: float(value) for name, value in found.items()})
        return found

    monkeypatch.setattr(update_module, "backward", listening)
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
    """With one minibatch of one micro-batch the mean ratio of the first step is exactly 1.0."""
    rl, run = make(
        parts={"kind": kind},
        temperature=temperature,
        num_mini_batches=1,
        per_device_train_batch_size=16,
        **more,
    )
    seen = seen_by_update(monkeypatch)
    train_iteration(rl, RLProgress(kl_coefficient=0.05), run)
    assert seen[0]["ratio"] == 1.0
    assert seen[0]["step_kl"] == 0.0
    assert seen[0]["clip_fraction"] == 0.0
    assert seen[1]["ratio"] != 1.0


def test_while_nothing_moves_every_ratio_of_the_first_pass_is_one(make, monkeypatch) -> None:
    """The learning rate is too small to change a weight; micro-batches of unequal width add up."""
    rl, run = make(num_ppo_epochs=1, learning_rate=1e-30, value_learning_rate=1e-30)
    seen = seen_by_update(monkeypatch)
    train_iteration(rl, RLProgress(kl_coefficient=0.05), run)
    assert len(seen) == 6
    assert sum(metrics["ratio"] for metrics in seen) == pytest.approx(2.0, abs=1e-7)
    assert all(metrics["step_kl"] == 0.0 for metrics in seen)


@pytest.mark.parametrize(("kind", "more"), [("model", {}), ("adapter", LORA)])
def test_with_zero_advantage_the_policy_does_not_move(make, monkeypatch, kind, more) -> None:
    """Also where the value function is trained."""
    rl, run = make(parts={"kind": kind}, **more)

    def nothing(self, experience):
        zero_NR = torch.zeros_like(experience.old.logps_NR)
        return AdvantageTargets(advantages_NR=zero_NR, returns_NR=zero_NR + 1.0)

    monkeypatch.setattr(PPOAlgorithm, "advantages", nothing)
    before = weights(rl)
    train_iteration(rl, RLProgress(kl_coefficient=0.05), run)
    changed = moved(before, weights(rl))
    assert changed
    assert all(name.startswith("value/") for name in changed)


def test_without_reward_and_kl_no_weight_of_the_policy_moves(make) -> None:
    """Equal scores, values of zero: every advantage is 0, so no weight of the policy moves."""
    rl, run = make(kl_coef=0.0, parts={"table": {"w5": 0.0}})
    before = weights(rl)
    train(rl, run)
    assert not {name for name in moved(before, weights(rl)) if name.startswith("policy/")}


@pytest.mark.parametrize("seed", range(5))
def test_the_best_arm_is_found_on_every_seed(make, tiny, seed) -> None:
    """One token a response, sixteen words: w9 pays 1, w4 pays 0.5, the rest nothing. A
    little entropy bonus keeps w4 from being settled on before w9 has been tried.
    """
    prompts = [[1, 5], [1, 6], [1, 7], [1, 3]]
    rl, run = make(
        seed=seed,
        iterations=30,
        prompts=4,
        num_generations=16,
        num_ppo_epochs=4,
        num_mini_batches=2,
        per_device_train_batch_size=32,
        max_new_tokens=1,
        kl_coef=0.0,
        entropy_coef=0.003,
        learning_rate=3e-3,
        guards={"unending": None, "entropy": None, "kl": None},
        parts={
            "model": tiny(seed=seed, vocab=16, layers=1, width=16),
            "table": {"w9": 1.0, "w4": 0.5},
            "prompts": prompts,
        },
    )
    train(rl, run)
    with torch.no_grad():
        masses = rl.actor.policy(torch.tensor(prompts)).logits[:, -1].softmax(-1)
    assert run.metrics["reward_first"] < 0.5
    assert bool((masses[:, 9] > 0.95).all()), masses[:, 9]


@pytest.mark.parametrize("seed", range(5))
def test_with_kl_the_known_optimum_is_reached_on_every_seed(make, tiny, seed) -> None:
    """The policy that maximizes E[r] − β·KL is π_ref·exp(r/β)/Z (Ziegler 2019, eq. 2). With β = 0.5
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
    rl, run = make(
        seed=seed,
        iterations=40,
        prompts=2,
        num_generations=64,
        num_ppo_epochs=2,
        num_mini_batches=2,
        per_device_train_batch_size=64,
        max_new_tokens=1,
        kl_coef=0.5,
        whiten_advantages=False,
        learning_rate=2e-3,
        lr_scheduler_type="linear",
        guards={"unending": None},
        parts={"model": model, "table": {"w9": 1.0}, "prompts": prompts.tolist()},
    )
    train(rl, run)
    with torch.no_grad():
        found = rl.actor.policy(prompts).logits[:, -1].softmax(-1)
    distance = (found * (found / optimum).log()).sum(-1)
    start = (masses * (masses / optimum).log()).sum(-1)
    assert bool((distance < 0.02).all()), (distance, start)
    assert bool((distance < start / 5).all()), (distance, start)


def test_micro_batches_change_no_metric(make) -> None:
    found = []
    for size in (1, 3, 16):
        rl, run = make(per_device_train_batch_size=size, iterations=2)
        train(rl, run)
        found.append((run.metrics, weights(rl)))
    for metrics, after in found[1:]:
        for name, number in found[0][0].items():
            if name != "tokens_per_second":
                assert metrics[name] == pytest.approx(number, abs=2e-4), name
        for name, tensor in found[0][1].items():
            torch.testing.assert_close(after[name], tensor, atol=2e-4, rtol=1e-3)


def test_a_shared_backbone_and_separate_models_give_the_same_metrics(make, tiny) -> None:
    """A LoRA policy over a shared trunk, and the same policy merged beside a separate reference: same
    samples, log-probabilities, reference and KL before any update; and after an update of the LoRA
    policy, its shared reference is still the model that came in.
    """
    shared, run_a = make(parts={"kind": "adapter"}, **LORA)
    apart, run_b = make(parts={"kind": "model"})
    progress, seen_a = train_iteration(shared, RLProgress(kl_coefficient=0.05), run_a)
    other, seen_b = train_iteration(apart, RLProgress(kl_coefficient=0.05), run_b)
    for name in ("reward", "kl", "entropy", "length", "ended", "value", "explained_variance"):
        assert seen_a[name] == pytest.approx(seen_b[name], abs=1e-5), name
    assert seen_a["kl"] == seen_b["kl"] == 0.0
    _, later = train_iteration(shared, progress, run_a)
    assert later["kl"] != 0.0
    tokens = torch.tensor([[1, 5, 6, 7]])
    with shared.reference.active() as reference:
        found = reference(tokens).logits
    torch.testing.assert_close(found, tiny()(tokens).logits, atol=1e-5, rtol=1e-4)
    assert other.iteration == 1


def test_the_value_adapter_and_the_policy_adapter_do_not_touch_each_other(make) -> None:
    """Values are trained through their adapter; log-probabilities of the policy do not change."""
    rl, run = make(parts={"kind": "adapter"}, kl_coef=0.0, **LORA)
    before = weights(rl)
    train_iteration(rl, RLProgress(kl_coefficient=0.0), run)
    changed = moved(before, weights(rl))
    assert any(name.startswith("policy/") and "lora_B.default" in name for name in changed)
    assert any(name.startswith("value/") and "lora_B.value" in name for name in changed)
    assert not any(name.startswith("policy/") and ".value." in name for name in before)
    frozen = [p for p in rl.actor.policy.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)


@pytest.mark.parametrize(
    "more",
    [
        {"entropy_coef": 0.01},
        {"bootstrap_truncated": True},
        {"missing_eos_penalty": 1.0, "reward_scale": "running", "reward_clip": 1.0},
        {"kl_target": 1.0, "kl_estimator": "k3"},
        {"kl_estimator": "k2", "cliprange_value": None, "gamma": 0.9},
        {"lr_scheduler_type": "cosine", "warmup_steps": 0.2, "weight_decay": 0.1},
        {"top_k": 5, "top_p": 0.9, "min_new_tokens": 2},
        {"precision": "bf16"},
    ],
)
def test_every_option_changes_the_trained_weights_and_breaks_nothing(make, more) -> None:
    plain, run = make()
    train(plain, run)
    other, run_other = make(**more)
    train(other, run_other)
    assert all(torch.isfinite(p).all() for p in weights(other).values())
    assert moved(weights(plain), weights(other))


@pytest.mark.parametrize(("kind", "more"), [("model", {}), ("head", {}), ("head", LORA)])
def test_recomputed_activations_change_no_metric(make, kind, more) -> None:
    found, passes = [], []
    for recompute in (False, True):
        rl, run = make(
            parts={"kind": kind}, activation_checkpointing=recompute, iterations=1, **more
        )
        count = []
        inner = rl.actor.parts.trunk.layers[0].self_attn
        inner.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        train(rl, run)
        found.append(weights(rl))
        passes.append(len(count))
        assert not any(module.training for module in rl.actor.policy.modules())
    assert passes[1] == passes[0] + 2 * 2 * 3, "epochs × minibatches × micro-batches, once more"
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, atol=1e-5, rtol=1e-4)


def test_curves_and_samples_are_written(make) -> None:
    rl, run = make(samples_shown=2, samples_every=2)
    train(rl, run)
    curve = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["done"] for row in curve] == [1, 2, 3]
    samples = [json.loads(line) for line in (run.folder / "samples.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in samples] == [1, 1, 3, 3]
    assert samples[0].keys() == {
        "iteration", "prompt", "response", "ended", "tokens", "reward", "reward_table"
    }  # fmt: skip
    assert run.metrics["reward_first"] == curve[0]["reward"]


def test_a_nan_reward_stops_the_step_with_samples(make) -> None:
    rl, run = make(parts={"table": {"w5": float("nan")}})
    with pytest.raises(StageError) as stopped:
        train(rl, run)
    lines = str(stopped.value).splitlines()
    assert lines[0] == "guard 'not_finite' at iteration 1: reward is NaN or infinite"
    assert len(lines) == 5
    assert lines[-1] == (
        "  hint: lower learning_rate, and look for rewards that are NaN or infinite; "
        "or set guards.not_finite"
    )


def test_a_batch_with_nan_is_skipped_where_the_recipe_asks_for_it(make) -> None:
    rl, run = make(parts={"table": {"w5": float("nan")}}, guards={"not_finite": "skip"})
    before = weights(rl)
    progress = train(rl, run)
    assert progress.guards.skipped == 3
    assert progress.kl_coefficient == 0.05
    assert not moved(before, weights(rl))
    assert run.metrics["skipped"] == 3.0
