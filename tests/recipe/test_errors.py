"""Every error of a recipe is reported at once, each in full."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_all_errors_of_a_recipe_are_reported_at_once(error_text: Callable[..., str]) -> None:
    text = """\
        naem: zephyr
        seed: soon
        model: {pth: a/b}
        steps:
          - stage: sft
            lr: 1
            lr: 2
          - stage: sft
          - sft
          - learning_rate: 1
          - stage: 3
          - stage: dpo
            as: model
          - stage: dpo
            as: a b
            gate: {loss: 2.5, kl: "3 .. 2", length: short}
          - as: ppo
    """
    assert error_text(text).splitlines() == [
        "r.yaml:1: a recipe has no key 'naem'",
        "  hint: did you mean 'name'?",
        "r.yaml:2: 'seed' is 'soon', not a whole number from 0 to 4294967295",
        "r.yaml:3: 'model' has no key 'pth'",
        "  hint: did you mean 'path'?",
        "r.yaml:3: 'model' needs 'path'",
        "  hint: write 'model: FOLDER_OR_HUB_ID', or 'model: {path: …, revision: …}'",
        "r.yaml:7: the key 'lr' is repeated",
        "  hint: the first is at r.yaml:6; keep one of them",
        "r.yaml:8: two steps are called 'sft'",
        "  hint: the first is at r.yaml:5; give one its own name with 'as:'",
        "r.yaml:9: a step is 'sft', not a mapping",
        "  hint: begin it with '- stage: NAME', its options on the lines below",
        "r.yaml:10: a step has neither 'stage' nor 'as'",
        "  hint: begin it with '- stage: NAME'",
        "r.yaml:11: 'stage' is 3, not a name",
        "r.yaml:13: a step cannot be called 'model', which is a key of the recipe",
        "  hint: give it another name with 'as:'",
        "r.yaml:15: 'a b' cannot name a step",
        "  hint: 1 to 64 letters, digits, '-' and '_', a letter or digit first",
        "r.yaml:16: gate 'loss' is 2.5, not a bound",
        '  hint: write it in quotes: "< 2.5", "<= 2.5", "> 0.9", ">= 0.9", "0.1 .. 0.5"',
        "r.yaml:16: gate 'kl' is '3 .. 2', a bound that no number can meet",
        '  hint: write it in quotes: "< 2.5", "<= 2.5", "> 0.9", ">= 0.9", "0.1 .. 0.5"',
        "r.yaml:16: gate 'length' is 'short', not a bound",
        '  hint: write it in quotes: "< 2.5", "<= 2.5", "> 0.9", ">= 0.9", "0.1 .. 0.5"',
        "r.yaml:17: step 'ppo' has no 'stage'",
        "  hint: begin it with '- stage: NAME'",
    ]


BEGIN = "  hint: begin each step with '- stage: NAME'"
STEPS = "  hint: write 'steps:', a list whose entries begin with '- stage: NAME'"
SEED = "not a whole number from 0 to 4294967295"
NAME = (
    "which cannot name a run\n"
    "  hint: 1 to 128 letters, digits, '.', '-' and '_', a letter or digit first"
)
MODEL = "not text\n  hint: write 'model: FOLDER_OR_HUB_ID', or 'model: {path: …, revision: …}'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: {stage: sft}", f"r.yaml:1: 'steps' is a mapping, not a list\n{BEGIN}"),
        ("steps:", f"r.yaml:1: 'steps' is empty, not a list\n{BEGIN}"),
        ("seed: 1", f"r.yaml:1: the recipe has no steps\n{STEPS}"),
        ("seed: true\nsteps: [{stage: a}]", f"r.yaml:1: 'seed' is true, {SEED}"),
        ("seed: -1\nsteps: [{stage: a}]", f"r.yaml:1: 'seed' is -1, {SEED}"),
        ("name: a/b\nsteps: [{stage: a}]", f"r.yaml:1: 'name' is 'a/b', {NAME}"),
        ("name: ..\nsteps: [{stage: a}]", f"r.yaml:1: 'name' is '..', {NAME}"),
        ("description: 3\nsteps: [{stage: a}]", "r.yaml:1: 'description' is 3, not text"),
        ("model:\nsteps: [{stage: a}]", f"r.yaml:1: 'model' is empty, {MODEL}"),
        ("model: {path: a, revision: 12}\nsteps: []", f"r.yaml:1: 'model.revision' is 12, {MODEL}"),
        ("steps:\n- stage: a\n  gate: small",
         "r.yaml:3: 'gate' is 'small', not a mapping from metrics to bounds\n"
         "  hint: gate: {eval_loss: \"< 2.5\"}"),
        ("steps:\n- {stage: a}\n- {stage: b, after: a, before: a}",
         "r.yaml:3: step 'b' has both 'after' and 'before'\n  hint: keep one"),
        ("drop: [a]\nsteps: [{stage: b}]",
         "r.yaml:1: 'drop' names 'a', and this recipe extends no other\n"
         "  hint: delete the step itself"),
        ("steps: [{stage: b}]\n? [a]\n: 1", "r.yaml:2: a key must be a word"),
    ],
)  # fmt: skip
def test_a_single_error_has_its_whole_text(
    error_text: Callable[..., str], text: str, message: str
) -> None:
    assert error_text(text) == message


def test_an_error_next_to_a_recipe_that_is_not_a_mapping_is_reported(
    error_text: Callable[..., str],
) -> None:
    assert error_text("- a: ${NO}\n").splitlines()[0] == (
        "r.yaml:1: the environment variable 'NO' is not set"
    )
