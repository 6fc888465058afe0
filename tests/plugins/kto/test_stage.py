"""The kto stage: its plan, its rows, the effect of training, and its metrics recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from aligner.api import Recipe
from aligner.data.store.token_rows import LabelTokens
from aligner.errors import AlignerError
from aligner.state import ModelState
from aligner.testing import labels, preferences, run_stage, tiny_tokenizer, write_files, write_tiny
from aligner.testing.run import recipe_for
from aligner_kto.stage import KTO
from aligner_kto.trainer import KTOMethod

SMALL: dict[str, Any] = {
    "data": "labels.jsonl",
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
}
OTHERS = [labels(8, seed=9)[place] for place in (0, 1, 3, 5)]
"""Held-out rows: an undesirable one, and three desirable ones."""
FILES = {"labels.jsonl": labels(), "others.jsonl": OTHERS, "pairs.jsonl": preferences()}


def stage(**more: Any) -> KTO:
    return KTO(KTO.Options(**SMALL | more))


def checked(folder: Path, **more: Any) -> Any:
    return recipe_for(stage(**more), folder, files=FILES).check(runs=folder / "runs").plans["kto"]


def refused(folder: Path, options: str) -> str:
    write_tiny(folder / "tiny")
    recipe = f"model: tiny\nsteps:\n  - stage: kto\n    data: labels.jsonl\n{options}"
    write_files(folder, {"r.yaml": recipe, **FILES})
    with pytest.raises(AlignerError) as error:
        Recipe.load(folder / "r.yaml").check(runs=folder / "runs")
    return str(error.value).replace(f"{folder}/", "")


def test_the_plan_describes_the_loss_the_reference_and_the_rows(tmp_path: Path) -> None:
    plan = checked(tmp_path, beta=0.2, desirable_weight=1.5, hold_out=0.3)
    assert plan.summary == (
        "prefer desirable completions, kto, beta 0.2, weights 1.5 and 1, learning rate 0.01"
    )
    assert plan.reference == "model's policy (frozen copy)"
    assert plan.rows + int(plan.notes[0].split()[0]) == 12
    assert plan.metrics == {"loss", "accuracy", "kl", "eval_loss", "eval_accuracy", "eval_kl"}


def test_a_preference_pair_is_two_rows(tmp_path: Path) -> None:
    plan = checked(tmp_path, data="pairs.jsonl")
    assert plan.rows == 24
    assert plan.ledgers["data"]["labels"] == {"True": 12, "False": 12}


def test_an_order_that_separates_neighbors_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "    train_sampling_strategy: random\n") == (
        "r.yaml:3: stage 'kto': loss_type kto needs train_sampling_strategy sequential, not random: "
        "its KL estimate pairs neighbors of a batch"
    )


def test_a_batch_of_one_row_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "    per_device_train_batch_size: 1\n") == (
        "r.yaml:3: stage 'kto': loss_type kto needs per_device_train_batch_size of 2 or more: its KL "
        "estimate pairs each prompt with the completion of another row of the batch"
    )


def test_apo_zero_unpaired_needs_neither(tmp_path: Path) -> None:
    free = {"train_sampling_strategy": "random", "per_device_train_batch_size": 1}
    assert checked(tmp_path, loss_type="apo_zero_unpaired", **free).rows == 12


def method(rows: list[LabelTokens], *, longest: int = 99, size: int = 4) -> list[dict[str, Any]]:
    options = KTO.Options(**SMALL | {"per_device_train_batch_size": size, "max_length": longest})
    made = KTOMethod(options)
    made._longest = longest
    return list(made.rows(rows, held_out=False))


def tokens(number: int, *, prompt: int = 1) -> LabelTokens:
    return LabelTokens([number] * prompt, [10 * number, 10 * number + 1], bool(number % 2))


def test_completions_rotate_within_each_batch_and_none_is_paired_with_its_own_prompt() -> None:
    kl = [row["kl_ids"][0] for row in method([tokens(number) for number in range(1, 10)])]
    assert kl == [40, 10, 20, 30, 80, 50, 60, 70, 80], "the last batch has one row, and borrows"


def test_a_completion_of_another_row_is_truncated_to_the_longest_row() -> None:
    """Row 1 has 2 + 2 tokens, row 2 has 3 + 2: with at most 4 tokens, row 2 has room for one more."""
    rows = method([tokens(1, prompt=2), tokens(2, prompt=3)], longest=4)
    assert [row["kl_ids"] for row in rows] == [[20, 21], [10]]


def test_the_preview_shows_both_completions_and_trains_only_the_own_one(tmp_path: Path) -> None:
    recipe = recipe_for(stage(shuffle=False), tmp_path, files=FILES)
    (section,) = recipe.preview(rows=[1, 2]).steps["kto"]
    first, second = section.rows
    assert [row.details for row in section.rows] == [("label 0",), ("label 1",)]
    own, other = second.sequences
    assert (own.name, other.name) == ("completion", "kl")
    assert other.notes == ("not trained: the loss reads its log-probability without a gradient",)
    assert other.counts["trained"] == 0
    assert own.counts["trained"] > 0
    completion = [t.text for t in first.sequences[0].tokens if t.role == "trained"]
    shown = [t.text for t in other.tokens if t.role == "masked"]
    assert shown[second.prompt_length :] == completion


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_the_first_loss_is_half_of_the_weight(tmp_path: Path, loss_type: str) -> None:
    """Policy and reference are equal, so each loss is w·(1 - σ(0)) = w / 2."""
    weights = {"desirable_weight": 1.5, "undesirable_weight": 1.5}
    result = run_stage(stage(loss_type=loss_type, **weights), tmp_path, files=FILES)
    assert result["kto"].curves["loss"] == [(1, pytest.approx(0.75, abs=1e-6))]
    assert result["kto"].curves["rewards/chosen"] == [(1, pytest.approx(0.0, abs=1e-5))]


def test_a_first_reward_other_than_0_is_refused(tmp_path: Path) -> None:
    made = stage().method()

    class Place:
        where = "r.yaml:3"

    with pytest.raises(AlignerError) as error:
        made.check({"rewards/rejected": 0.25}, ModelState(), Place())  # type: ignore[arg-type]
    assert str(error.value) == (
        "r.yaml:3: the first rewards/rejected is 0.250000, not 0: the reference is not the policy "
        "that came in\n  hint: this is an error in aligner or in a plugin of an earlier step; please "
        "report it"
    )
    made.check({"rewards/rejected": 1e-6}, ModelState(), Place())  # type: ignore[arg-type]


def logps(model: Any, prompt: str, completion: str) -> float:
    """Log-probability of a completion, by a plain forward pass without padding."""
    tokenizer = tiny_tokenizer()
    user, assistant = (
        {"role": role, "content": text}
        for role, text in (("user", prompt), ("assistant", completion))
    )
    asked = tokenizer.apply_chat_template([user], add_generation_prompt=True, return_dict=False)
    ids = tokenizer.apply_chat_template([user, assistant], return_dict=False)
    with torch.no_grad():
        scores = model(torch.tensor([ids])).logits.float().log_softmax(-1)[0]
    places = range(len(asked) - 1, len(ids) - 1)
    return sum(float(scores[place, ids[place + 1]]) for place in places)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """A trained policy, the policy it started from, and the result of the run."""
    folder = tmp_path_factory.mktemp("trained")
    options = {"max_steps": 20, "eval_data": "others.jsonl", "beta": 0.5}
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.7}
    result = run_stage(stage(**options, **weights), folder, files=FILES)
    start = AutoModelForCausalLM.from_pretrained(folder / "tiny-model")
    return result.policy(), start, result


def test_training_raises_desirable_and_lowers_undesirable_likelihoods(trained: Any) -> None:
    policy, start, _ = trained
    for row in labels():
        pair = (row["prompt"], row["completion"])
        change = logps(policy, *pair) - logps(start, *pair)
        assert change > 0.1 if row["label"] else change < -0.1, row


def test_the_metrics_of_held_out_rows_are_those_recomputed_from_the_saved_policy(
    trained: Any,
) -> None:
    """One batch of four rows, each prompt also with the completion of the row before it."""
    policy, start, result = trained

    def ratio(prompt: str, completion: str) -> float:
        return logps(policy, prompt, completion) - logps(start, prompt, completion)

    mismatched = [
        ratio(row["prompt"], OTHERS[place - 1]["completion"]) for place, row in enumerate(OTHERS)
    ]
    z0 = max(sum(mismatched) / 4, 0.0)
    assert sum(mismatched) > 0.1, "the KL estimate takes part in the losses"
    losses, right = [], []
    for row in OTHERS:
        r = ratio(row["prompt"], row["completion"])
        weight, sign = (1.3, 1) if row["label"] else (0.7, -1)
        losses.append(weight * (1 - torch.tensor(0.5 * sign * (r - z0)).sigmoid().item()))
        right.append((r > z0) == row["label"])
    metrics = result["kto"].metrics
    assert metrics["eval_loss"] == pytest.approx(sum(losses) / 4, abs=1e-4)
    assert metrics["eval_kl"] == pytest.approx(z0, abs=1e-3)
    assert metrics["eval_accuracy"] == pytest.approx(sum(right) / 4)
