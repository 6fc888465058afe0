"""Options that are refused, with their messages."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from aligner.rl.options import Guard
from aligner_ppo.options import PPOOptions
from aligner_ppo.stage import PPO
from aligner_ppo.value_slot import value_kind


def config(**more) -> PPOOptions:
    return PPOOptions(data="none.jsonl", **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rewards": []}, "rewards is empty: there would be nothing to train on"),
        (
            {"rewards": ["length", "length"]},
            "rewards names a source twice; give it once, with the summed weight",
        ),
        (
            {"rewards": [{"name": "model", "options": {"a": 1}}]},
            "the reward model takes no options",
        ),
        (
            {"bootstrap_truncated": True, "missing_eos_penalty": 1.0},
            "bootstrap_truncated treats a truncated response as unfinished, and "
            "missing_eos_penalty as a failure; choose one",
        ),
        ({"min_new_tokens": 128}, "min_new_tokens must be below max_new_tokens"),
        (
            {"num_mini_batches": 257},
            "num_mini_batches is above the number of responses in an iteration",
        ),
        ({"value_from": "reward", "value": "head"}, "value_from: reward needs value: model"),
        (
            {"kl_target": 6.0, "kl_coef": 0.0},
            "kl_target adapts kl_coef, which is 0",
        ),
        (
            {"prompts": 1, "num_generations": 1, "num_mini_batches": 1},
            "an iteration needs at least two responses to compare",
        ),
        (
            {"precision": "fp16"},
            "precision must be auto, fp32 or bf16 here: ratios near 1 need 32-bit weights",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(more, message) -> None:
    with pytest.raises(ValidationError) as refused:
        config(**more)
    assert refused.value.errors()[0]["msg"] == f"Value error, {message}"


def test_short_forms_of_rewards_and_guards_are_expanded() -> None:
    made = config(rewards="length", guards={"kl": 7, "entropy": None})
    assert [reward.name for reward in made.rewards] == ["length"]
    assert made.guards.kl == Guard(limit=7.0)
    assert made.guards.entropy.limit is None
    assert [reward.name for reward in config().rewards] == ["model"]


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({}, {"policy", "tokenizer", "reward"}),
        ({"rewards": ["length"]}, {"policy", "tokenizer"}),
        ({"rewards": ["length", "model"]}, {"policy", "tokenizer", "reward"}),
        ({"rewards": ["length"], "value_from": "reward"}, {"policy", "tokenizer", "reward"}),
    ],
)
def test_the_reward_slot_is_needed_only_where_it_is_used(more, needed) -> None:
    assert PPO(config(**more)).requires == needed


@pytest.mark.parametrize(
    ("more", "lora", "slot", "kind"),
    [
        ({}, False, None, "model"),
        ({}, True, None, "adapter"),
        ({"activation_checkpointing": True}, True, None, "head"),
        ({"value_from": "reward"}, True, None, "model"),
        ({}, True, "model", "model"),
        ({"value": "head"}, False, "model", "head"),
    ],
)
def test_the_kind_of_value_function_follows_from_policy_and_slot(more, lora, slot, kind) -> None:
    assert value_kind(config(**more), lora=lora, slot=slot) == kind


def test_iterations_are_one_pass_over_the_prompts_unless_given() -> None:
    assert config(prompts=64).total_iterations(129) == 3
    assert config(iterations=7).total_iterations(129) == 7
