"""The ppo stage in a chain: the contract of every stage, and the files that it saves."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from aligner.errors import StageError
from aligner.testing import StageContract, prompts, run_stage, texts
from aligner_ppo.stage import PPO

SMALL = {
    "data": "prompts.jsonl",
    "iterations": 4,
    "prompts": 4,
    "num_generations": 2,
    "num_mini_batches": 2,
    "num_ppo_epochs": 2,
    "max_new_tokens": 6,
    "learning_rate": 1e-2,
    "save_steps": 2,
}
LENGTH = {"name": "length", "options": {"maximum": 3}}
FILES = {"prompts.jsonl": prompts(8), "texts.jsonl": texts()}


class Contract(StageContract):
    stage = PPO
    files = FILES
    unrepeatable = frozenset({"tokens_per_second"})


class TestFullWeightsAndRewardFunctions(Contract):
    options: ClassVar[dict[str, Any]] = SMALL | {
        "rewards": [LENGTH, {"name": "exact_match", "weight": 0.5}]
    }


class TestLoRAAndRewardModel(Contract):
    options: ClassVar[dict[str, Any]] = SMALL | {
        "adapter": {"r": 4, "lora_alpha": 8},
        "hold_out": 0.3,
        "kl_target": 2.0,
        "reward_scale": "running",
    }


class TestHeadOnTrunkWithPretrainingMix(Contract):
    options: ClassVar[dict[str, Any]] = SMALL | {
        "value": "head",
        "rewards": LENGTH,
        "pretraining": {"data": "texts.jsonl", "batch_size": 3, "weight": 2.0},
        "entropy_coef": 0.01,
        "missing_eos_penalty": 1.0,
    }


class TestContinuousBatching(Contract):
    """Also resumed to the same result: on the CPU the responses follow from the seed."""

    options: ClassVar[dict[str, Any]] = SMALL | {
        "rewards": LENGTH,
        "sampler": "continuous_batching",
        "adapter": {"r": 4, "lora_alpha": 8},
    }


class TestValueFromRewardAndAnotherReference(Contract):
    options: ClassVar[dict[str, Any]] = SMALL | {"value_from": "reward"}
    fill = ("reference",)


@pytest.mark.parametrize(("kind", "files"), [("model", "config.json"), ("head", "value.json")])
def test_policy_and_value_are_saved_and_the_checkpoints_gone(tmp_path, kind, files) -> None:
    config = PPO.Options(**SMALL, rewards=LENGTH, value=kind)
    result = run_stage(PPO(config), tmp_path, files=FILES)
    folder = result["ppo"].folder
    assert (folder / "policy" / "model.safetensors").is_file()
    assert (folder / "value" / files).is_file()
    assert not (folder / "checkpoints").exists()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["done"] for line in lines] == [1, 2, 3, 4]


def test_a_guard_that_stops_the_step_names_its_line_in_the_recipe(tmp_path) -> None:
    config = PPO.Options(**SMALL | {"max_new_tokens": 1}, rewards=LENGTH, guards={"unending": 0.5})
    with pytest.raises(StageError) as stopped:
        run_stage(PPO(config), tmp_path, files=FILES)
    lines = str(stopped.value).splitlines()
    assert lines[0] == (
        "steps[0]: guard 'unending' at iteration 1: 100% of the responses were truncated, above 50%"
    )
    assert len(lines) == 5
    assert lines[4] == (
        "  hint: set missing_eos_penalty, raise max_new_tokens, and check that the stop token was "
        "trained; or set guards.unending"
    )
