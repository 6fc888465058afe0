"""GRPO on tiny models: the reward rises, the first ratio is 1, and a resumed run is the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from aligner.rl import checkpoint, loop
from aligner.rl import update as update_module
from aligner.rl.checkpoint import RLProgress
from aligner.rl.loop import train, train_iteration
from aligner.testing.rl import tiny_llama

LORA = {"adapter": {"r": 4, "lora_alpha": 8}}


def weights(rl: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in rl.optimizer.parameters.items()}


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("seed", range(2))
def test_the_best_arm_is_found_with_every_loss(make, loss_type, seed) -> None:
    """One token per response, sixteen words: w9 pays 1, w4 pays 0.5, the others nothing."""
    prompts = [[1, 5], [1, 6], [1, 7], [1, 3]]
    rl, context = make(
        seed=seed,
        iterations=30,
        prompts=4,
        num_generations=16,
        num_iterations=2,
        num_mini_batches=2,
        per_device_train_batch_size=32,
        max_new_tokens=1,
        beta=0.0,
        loss_type=loss_type,
        entropy_coef=0.003,
        learning_rate=3e-3,
        guards={"unending": None, "entropy": None, "kl": None},
        parts={
            "model": tiny_llama(seed=seed, vocab=16, layers=1, width=16),
            "table": {"w9": 1.0, "w4": 0.5},
            "prompts": prompts,
        },
    )
    train(rl, context)
    with torch.no_grad():
        masses = rl.actor.policy(torch.tensor(prompts)).logits[:, -1].softmax(-1)
    assert context.metrics["reward_first"] < 0.5
    assert context.metrics["reward"] > 0.9
    assert bool((masses[:, 9] > 0.8).all()), masses[:, 9]


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("more", [{}, LORA, LORA | {"sampler": "continuous_batching"}])
def test_the_first_ratio_is_exactly_one(make, monkeypatch, more, level) -> None:
    rl, context = make(
        num_mini_batches=1, per_device_train_batch_size=16, importance_sampling_level=level, **more
    )
    seen = []
    backward = update_module.backward

    def recorded(*args, **kwargs):
        found = backward(*args, **kwargs)
        seen.append({name: float(value) for name, value in found.items()})
        return found

    monkeypatch.setattr(update_module, "backward", recorded)
    train_iteration(rl, RLProgress(kl_coefficient=0.05), context)
    assert seen[0]["ratio"] == 1.0
    assert seen[0]["step_kl"] == seen[0]["clip_ratio_low"] == seen[0]["clip_ratio_high"] == 0.0
    assert seen[1]["ratio"] != 1.0


def test_equal_rewards_move_nothing_and_are_counted(make) -> None:
    rl, context = make(beta=0.0, parts={"table": {"w5": 0.0}})
    before = weights(rl)
    train(rl, context)
    assert all(torch.equal(tensor, weights(rl)[name]) for name, tensor in before.items())
    assert context.metrics["frac_reward_zero_std"] == 1.0


@pytest.mark.parametrize(
    "more",
    [
        {"scale_rewards": "batch"},
        {"scale_rewards": "none"},
        {"loss_type": "dr_grpo"},
        {"loss_type": "grpo"},
        {"loss_type": "bnpo"},
        {"beta": 1.0},
        {"beta": 1.0, "kl_target": 0.01},
        {"beta": 1.0, "use_bias_correction_kl": False},
        {"epsilon": 1e-3, "epsilon_high": 2e-3},
        {"epsilon": 1e-3, "delta": 1.01},
        {"importance_sampling_level": "sequence"},
        {"num_iterations": 1},
        {"missing_eos_penalty": 1.0},
    ],
)
def test_every_option_changes_the_trained_weights(make, more) -> None:
    found = []
    for options in ({}, more):
        rl, context = make(**options)
        train(rl, context)
        found.append(weights(rl))
    assert all(torch.isfinite(tensor).all() for tensor in found[1].values())
    assert any(not torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_micro_batches_change_no_metric(make, loss_type) -> None:
    """But for bnpo, whose average is that of a micro-batch."""
    found = []
    for size in (1, 3, 16):
        rl, context = make(per_device_train_batch_size=size, iterations=2, loss_type=loss_type)
        train(rl, context)
        found.append((context.metrics, weights(rl)))
    for metrics, after in found[1:]:
        for name, number in found[0][0].items():
            if name != "tokens_per_second":
                assert metrics[name] == pytest.approx(number, abs=2e-4), name
        for name, tensor in found[0][1].items():
            torch.testing.assert_close(after[name], tensor, atol=2e-4, rtol=1e-3)


class Interrupted(Exception):
    """Stands for a power failure."""


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(make, monkeypatch) -> None:
    """Interrupted after the fourth iteration, before its checkpoint: it is repeated."""
    how = {
        "iterations": 6,
        "save_steps": 1,
        "kl_target": 0.5,
        "reward_scale": "running",
        "lr_scheduler_type": "cosine",
    }
    whole, context_whole = make(folder="whole", **how)
    train(whole, context_whole)
    report = loop.report

    def then_stop(rl, progress, metrics, context):
        report(rl, progress, metrics, context)
        if progress.iteration == 4:
            raise Interrupted

    first, context = make(folder="resumed", **how)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "report", then_stop)
        with pytest.raises(Interrupted):
            train(first, context)
    again, _ = make(folder="resumed", **how)
    train(again, context)
    expected, found = (checkpoint.trained_tensors(rl.optimizer) for rl in (whole, again))
    assert expected.keys() == found.keys()
    assert any(name.startswith("optimizer/exp_avg_sq/") for name in expected)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert curve(context)[-3:] == curve(context_whole)[-3:]


def curve(context: Any) -> list[dict[str, Any]]:
    lines = (context.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows]
