"""A recipe is merged into the one it extends, and lines stay those of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.errors import ErrorGroup, RecipeError
from aligner.recipe import Bound, ModelSpec, RecipeSpec, read_recipe


def test_a_recipe_is_merged_into_the_one_it_extends(
    assert_reads_back: Callable[[RecipeSpec], None],
    essence: Callable[[RecipeSpec], tuple[Any, ...]],
    family: Callable[..., None],
) -> None:
    family(
        shared__base="""\
            name: base
            description: The parent
            seed: 17
            model: {path: a/b, revision: main}
            steps:
              - stage: sft
                data: a.jsonl
                adapter: {r: 8, lora_alpha: 16}
                gate: {loss: "< 3", kl: "< 1"}
              - stage: reward
              - stage: dpo
                beta: 0.1
              - stage: evaluate
        """,
        child="""\
            extends: shared/base.yaml
            model: c/d
            drop: [evaluate]
            steps:
              - as: sft
                adapter:
                  r: 16
                gate: {kl: null}
              - stage: dpo
                data: [x, y]
              - stage: merge
                after: sft
              - stage: chat
                before: sft
        """,
    )
    recipe = read_recipe("child.yaml")
    assert essence(recipe) == (
        "child",
        "",
        ModelSpec(path="c/d"),
        17,
        [
            ("chat", "chat", {}, {}),
            (
                "sft",
                "sft",
                {"data": "a.jsonl", "adapter": {"r": 16, "lora_alpha": 16}},
                {"loss": Bound.parse("< 3")},
            ),
            ("merge", "merge", {}, {}),
            ("reward", "reward", {}, {}),
            ("dpo", "dpo", {"beta": 0.1, "data": ["x", "y"]}, {}),
        ],
    )
    sft = recipe.steps[1]
    assert (recipe.folder, recipe.model_where, sft.where) == (
        Path("."),
        "child.yaml:2",
        "child.yaml:5",
    )
    assert {key: sft.lines[key] for key in ("data", "adapter.r", "adapter.lora_alpha")} == {
        "data": "shared/base.yaml:7",
        "adapter.r": "child.yaml:7",
        "adapter.lora_alpha": "shared/base.yaml:8",
    }
    assert_reads_back(recipe)


def test_until_includes_the_steps_up_to_and_including_one(family: Callable[..., None]) -> None:
    family(
        a="steps: [{stage: chat}, {stage: sft}, {stage: reward}, {stage: dpo}]",
        b="extends: {recipe: a.yaml, until: reward}\nsteps: [{stage: ppo}]",
        c="extends: {recipe: b.yaml, until: sft}",
    )
    names = [[step.name for step in read_recipe(f"{name}.yaml").steps] for name in "bc"]
    assert names == [["chat", "sft", "reward", "ppo"], ["chat", "sft"]]


def test_errors_between_recipes_name_both_files(family: Callable[..., None]) -> None:
    family(
        base="sed: 1\nsteps:\n  - stage: sft\n  - stage: dpo\n",
        r="""\
            extends: {recipe: base.yaml, until: dqo}
            drop: [evaluate]
            steps:
              - as: stf
                beta: 1
              - stage: reward
                as: sft
              - stage: dpo
                after: sft
              - stage: ppo
                after: rewrad
        """,
    )
    with pytest.raises(ErrorGroup) as caught:
        read_recipe("r.yaml")
    assert str(caught.value).splitlines() == [
        "base.yaml:1: a recipe has no key 'sed'",
        "  hint: did you mean 'seed'?",
        "r.yaml:1: base.yaml has no step 'dqo'",
        "  hint: did you mean 'dpo'?",
        "r.yaml:2: the extended recipe has no step 'evaluate'",
        "  hint: known: dpo, sft",
        "r.yaml:4: step 'stf' has no 'stage', and the extended recipe no step of that name",
        "  hint: did you mean 'sft'?",
        "r.yaml:6: step 'sft' is 'reward' here and 'sft' at base.yaml:3",
        "  hint: give it another name with 'as:', and 'drop: [sft]'",
        "r.yaml:9: 'after' would move step 'dpo' of the extended recipe",
        "  hint: a merged step keeps its position; or 'drop: [dpo]' and write it under a new name",
        "r.yaml:11: 'after' names no step before this one: 'rewrad'",
        "  hint: known: dpo, sft",
    ]


def test_recipes_that_extend_one_another_in_a_circle_are_an_error(
    family: Callable[..., None],
) -> None:
    family(a="extends: b.yaml", b="seed: 1\nextends: a.yaml")
    with pytest.raises(RecipeError) as caught:
        read_recipe("a.yaml")
    assert str(caught.value) == (
        "b.yaml:2: recipes extend one another in a circle\n"
        "  hint: the circle: a.yaml → b.yaml → a.yaml"
    )


def test_a_long_chain_of_recipes_is_an_error(family: Callable[..., None]) -> None:
    family(**{f"r{n}": f"extends: r{n + 1}.yaml" for n in range(30)}, r30="steps: [{stage: sft}]")
    with pytest.raises(RecipeError) as caught:
        read_recipe("r0.yaml")
    assert str(caught.value) == "r15.yaml:1: more than 16 recipes extend one another"


HOW = "  hint: write 'extends: base.yaml', or 'extends: {recipe: base.yaml, until: STEP}'"


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("gone.yaml", "r.yaml:1: the recipe it extends, gone.yaml, does not exist"),
        (
            "https://x.org/a.yaml",
   "r.yaml:1: 'extends' is the URL 'https://x.org/a.yaml'\n"
            "  hint: save it next to this recipe",
        ),
        ("/etc/passwd", "r.yaml:1: 'extends' is '/etc/passwd', not the path of a .yaml file"),
        ("[a.yaml]", f"r.yaml:1: 'extends' is a list, not the path of a recipe\n{HOW}"),
        ("{until: sft}", f"r.yaml:1: 'extends' needs 'recipe'\n{HOW}"),
        ("{recipe: a.yaml, upto: b}", f"r.yaml:1: 'extends' has no key 'upto'\n{HOW}"),
        ("{recipe: 3}", f"r.yaml:1: 'recipe' is 3, not text\n{HOW}"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_extended_is_an_error(
    error_text: Callable[..., str], extends: str, message: str
) -> None:
    assert error_text(f"extends: {extends}\nsteps: [{{as: sft, beta: 1}}]") == message


def test_malformed_text_in_an_extended_recipe_has_its_location(
    error_text: Callable[..., str], family: Callable[..., None]
) -> None:
    family(base="steps: [")
    assert error_text("extends: base.yaml").startswith("base.yaml:1: ")
