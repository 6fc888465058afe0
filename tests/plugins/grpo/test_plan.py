"""Plan of a grpo step: its summary, its notes, and all errors at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aligner.errors import AlignerError
from aligner.testing import prompts
from aligner.testing.run import recipe_for
from aligner_grpo.stage import GRPO

SMALL = {
    "data": "prompts.jsonl",
    "iterations": 4,
    "prompts": 4,
    "num_generations": 2,
    "num_mini_batches": 2,
    "num_iterations": 3,
    "max_new_tokens": 6,
    "learning_rate": 1e-2,
}
FILES = {"prompts.jsonl": prompts(8)}


def checked(folder: Path, **more: Any) -> Any:
    recipe = recipe_for(GRPO(GRPO.Options(**(SMALL | more))), folder, files=FILES)
    return recipe.check(runs=folder / "runs").plans["grpo"]


def test_the_plan_names_rewards_sizes_loss_and_reference(tmp_path) -> None:
    plan = checked(tmp_path, beta=0.04, hold_out=0.3)
    assert plan.summary == (
        "maximize the reward model in 4 iterations of 4 × 2 responses, loss dapo, KL 0.04 (k3), "
        "learning rate 0.01"
    )
    assert plan.reference == "model's policy (frozen copy)"
    assert plan.optimizer_steps == 4 * 3 * 2
    assert {
        "reward_model",
        "eval_reward",
        "frac_reward_zero_std",
        "clip_ratio_high",
    } <= plan.metrics
    assert not {"value", "value_loss", "explained_variance"} & plan.metrics
    assert set(plan.slots) == {"policy"}
    assert plan.notes[0].startswith("memory: 0.")
    assert "value" not in plan.notes[0]


def test_a_lora_policy_is_its_own_reference(tmp_path) -> None:
    plan = checked(tmp_path, adapter={"r": 4, "lora_alpha": 8}, rewards=["exact_match"])
    assert plan.reference == "model's policy (new adapter off)"
    assert "reference" not in plan.notes[0]


def test_all_errors_are_found_at_once(tmp_path) -> None:
    with pytest.raises(AlignerError) as refused:
        checked(
            tmp_path,
            rewards=["lenght", {"name": "regex", "options": {"pattern": "("}}],
            max_new_tokens=90,
            sampler="continuous_batching",
            top_k=5,
        )
    assert str(refused.value) == (
        "steps[0].rewards: no installed plugin offers a reward function 'lenght'\n"
        "  hint: did you mean 'length'?\n"
        "steps[0].rewards: reward function 'regex': pattern '(': missing ), unterminated "
        "subpattern at position 0\n"
        "  hint: its options are pattern, seconds\n"
        "steps[0].top_k: `top_k: 5` is not possible with continuous batching, which returns no "
        "log-probabilities of the full distribution, which `sampler_gap` needs\n"
        "  hint: leave it out, or use `sampler: built_in`\n"
        "steps[0].max_new_tokens: the longest prompt has 10 tokens and a response up to 90, but the "
        "model has only 96 positions\n"
        "  hint: lower max_new_tokens, or set max_length to 6 to leave out longer prompts"
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_generations": 1}, "Input should be greater than or equal to 2"),
        (
            {"epsilon_high": 0.5, "delta": 1.4},
            "Value error, delta must be above 1 + epsilon_high, which is 1.5",
        ),
        (
            {"kl_target": 6.0, "beta": 0.0},
            "Value error, kl_target adapts beta, which is 0",
        ),
        ({"rewards": []}, "Value error, rewards is empty: there would be nothing to train on"),
    ],
)
def test_options_that_make_no_sense_are_refused(more, message) -> None:
    with pytest.raises(ValidationError) as refused:
        GRPO.Options(**(SMALL | more))
    assert refused.value.errors()[0]["msg"] == message


@pytest.mark.parametrize(
    ("rewards", "needed"),
    [(["model"], {"policy", "tokenizer", "reward"}), (["length"], {"policy", "tokenizer"})],
)
def test_the_reward_slot_is_needed_only_where_it_is_used(rewards, needed) -> None:
    assert GRPO(GRPO.Options(**SMALL, rewards=rewards)).requires == needed
