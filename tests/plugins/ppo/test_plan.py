"""Plan of a ppo step, and all its errors at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BloomConfig

from aligner.api import Recipe, Step
from aligner.errors import AlignerError
from aligner.models.model_info import info_of_config
from aligner.rl.checks import sampler_errors
from aligner.testing import prompts, texts
from aligner.testing.run import recipe_for
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
}
FILES = {"prompts.jsonl": prompts(8), "texts.jsonl": texts()}
LORA = {"adapter": {"r": 4, "lora_alpha": 8}}


def checked(folder: Path, **more: Any) -> Any:
    recipe = recipe_for(PPO(PPO.Options(**(SMALL | more))), folder, files=FILES)
    return recipe.check(runs=folder / "runs").plans["ppo"]


def refused(folder: Path, **more: Any) -> str:
    with pytest.raises(AlignerError) as error:
        checked(folder, **more)
    return str(error.value)


def test_the_plan_names_rewards_sizes_kl_and_reference(tmp_path) -> None:
    plan = checked(tmp_path, kl_target=6.0, hold_out=0.3)
    assert plan.summary == (
        "maximize the reward model in 4 iterations of 4 × 2 responses, KL 0.05 (k1) adapted to 6 "
        "nats, learning rate 0.01"
    )
    assert plan.reference == "model's policy (frozen copy)"
    assert plan.optimizer_steps == 4 * 2 * 2
    assert plan.rows + int(plan.notes[-1].split()[0]) == 8
    assert {"reward_model", "eval_reward", "kl", "ended"} <= plan.metrics
    assert plan.slots["value"].facts == {"value": "model"}


def test_the_plan_shows_the_models_in_memory(tmp_path) -> None:
    """11,680 parameters trained whole: 16 bytes each for policy and for the value model, which has
    5,104 fewer in its head; 4 each for reference and reward model.
    """
    full = checked(tmp_path, rewards=["model", {"name": "length", "options": {"maximum": 9}}])
    lora = checked(tmp_path, **LORA)
    assert full.notes[0] == "value: a separate model"
    assert full.notes[1].startswith("memory: 0.")
    assert full.notes[1].count("MiB") == 5
    assert (
        lora.notes[0] == "value: a separate adapter on the policy's frozen weights, nothing copied"
    )
    assert "reference" not in lora.notes[1], "a LoRA policy is its own reference"
    assert lora.reference == "model's policy (new adapter off)"


def test_all_errors_are_found_at_once(tmp_path) -> None:
    assert refused(
        tmp_path,
        rewards=[
            "lenght",
            {"name": "length"},
            {"name": "regex", "options": {"pattern": "("}},
        ],
        max_new_tokens=90,
        value="adapter",
    ) == (
        "steps[0].rewards: no installed plugin offers a reward function 'lenght'\n"
        "  hint: did you mean 'length'?\n"
        "steps[0].rewards: reward function 'length': maximum: Field required\n"
        "  hint: its options are minimum, maximum, margin\n"
        "steps[0].rewards: reward function 'regex': pattern '(': missing ), unterminated "
        "subpattern at position 0\n"
        "  hint: its options are pattern, seconds\n"
        "steps[0].max_new_tokens: the longest prompt has 10 tokens and a response up to 90, but the "
        "model has only 96 positions\n"
        "  hint: lower max_new_tokens, or set max_length to 6 to leave out longer prompts\n"
        "steps[0].value: `value: adapter` needs a policy with frozen weights below an adapter\n"
        "  hint: add an `adapter`, or use `value: model` or `value: head`"
    )


def test_what_continuous_batching_cannot_do_is_refused_at_its_option(tmp_path) -> None:
    found = refused(
        tmp_path,
        rewards=["length"],
        sampler="continuous_batching",
        min_new_tokens=2,
        top_k=5,
        top_p=0.9,
        attn_implementation="flex_attention",
    )
    for name, value in (("top_k", "5"), ("top_p", "0.9")):
        assert (
            f"steps[0].{name}: `{name}: {value}` is not possible with continuous batching, which "
            "returns no log-probabilities of the full distribution, which `sampler_gap` needs\n"
            "  hint: leave it out, or use `sampler: built_in`"
        ) in found
    assert (
        "steps[0].min_new_tokens: `min_new_tokens: 2` is not possible with continuous batching, "
        "which cannot keep a response from ending\n"
        "  hint: leave it out, or use `sampler: built_in`"
    ) in found
    assert (
        "steps[0].attn_implementation: continuous batching cannot use `attn_implementation: flex_attention`\n"
        "  hint: use sdpa or flash_attention_2, or `sampler: built_in`"
    ) in found


def test_an_architecture_that_cannot_be_batched_continuously_is_named(tmp_path) -> None:
    config = BloomConfig(vocab_size=24, hidden_size=16, n_layer=1, n_head=2)
    found = sampler_errors(
        PPO.Options(**SMALL, sampler="continuous_batching"),
        info_of_config(config.to_dict()),
        Nowhere(),
    )
    assert [str(error) for error in found] == [
        "sampler: transformers does not support continuous batching for BloomForCausalLM\n"
        "  hint: use `sampler: built_in`"
    ]


class Nowhere:
    def at(self, option: str) -> str:
        return option


def test_a_value_adapter_and_recomputed_activations_exclude_each_other(tmp_path) -> None:
    found = refused(tmp_path, value="adapter", activation_checkpointing=True, **LORA)
    assert found == (
        "steps[1].value: `value: adapter` cannot be combined with activation_checkpointing: "
        "activations would be recomputed with the policy's adapter\n"
        "  hint: use `value: head` or `value: model`, or remove activation_checkpointing"
    )


def test_missing_pretraining_data_is_an_error_at_its_option(tmp_path) -> None:
    found = refused(tmp_path, rewards=["length"], pretraining={"data": "nowhere.jsonl"})
    assert "steps[0].pretraining.data: no file or folder 'nowhere.jsonl'" in found


def test_few_prompts_and_dropout_are_noted(tmp_path) -> None:
    how = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
    plan = checked(tmp_path, prompts=16, adapter=how)
    assert "only 8 prompts: each is answered more than once per iteration" in plan.notes
    assert "the adapter's dropout is off: with it ratios would be noise" in plan.notes


def two_steps(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> Any:
    item, two = (PPO(PPO.Options(**(SMALL | how))) for how in (first, second))
    recipe_for(item, folder, files=FILES)
    steps = [Step(stage=item, name="one"), Step(stage=two, name="two")]
    recipe = Recipe(steps, model=folder / "tiny-model", name="two", seed=7, folder=folder)
    return recipe.run(runs=folder / "runs", show=False)


LEARNS = {
    "rewards": {"name": "length", "options": {"maximum": 1, "margin": 4}},
    "value_learning_rate": 1e-2,
}


@pytest.mark.parametrize(
    ("kind", "adapter"), [("model", {}), ("head", {}), ("head", LORA), ("adapter", LORA)]
)
def test_a_second_ppo_step_continues_the_value_function_of_the_first(
    tmp_path, kind, adapter
) -> None:
    """The first starts from values of 0. The second starts from the first's trained values, of the
    same kind without an option for it, and trains the first's adapter further.
    """
    result = two_steps(tmp_path, LEARNS | {"value": kind} | adapter, LEARNS)
    assert _first_values(result["one"].folder) == 0.0
    assert _first_values(result["two"].folder) < -0.05


def test_a_second_ppo_step_may_start_a_new_value_function(tmp_path) -> None:
    result = two_steps(tmp_path, LEARNS, LEARNS | {"value_from": "policy"})
    assert _first_values(result["two"].folder) == 0.0


def test_another_kind_than_that_of_the_slot_is_refused_before_anything_runs(tmp_path) -> None:
    with pytest.raises(AlignerError) as error:
        two_steps(tmp_path, LEARNS | {"value": "head"}, LEARNS | {"value": "model"})
    assert str(error.value) == (
        "steps[1].value: the value slot will contain a value head, and this step asks for a value "
        "model\n  hint: use `value: head`, or `value_from: policy` to start a new one"
    )


def _first_values(folder: Path) -> float:
    return float(json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["value"])
