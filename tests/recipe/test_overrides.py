"""Overrides change one value each, and errors name them."""

from __future__ import annotations

from collections.abc import Callable

from aligner.recipe import Bound, ModelSpec, RecipeSpec


def test_overrides_replace_values_of_the_file(
    read: Callable[..., RecipeSpec], sft_dpo: str
) -> None:
    recipe = read(
        sft_dpo,
        "sft.learning_rate=2e-5",
        "seed=3",
        "model.revision=v2",
        "first-dpo.adapter.r=16",
        "first-dpo.adapter.extra.deep=yes",
        "sft.data.1={path: c.jsonl}",
        "sft.gate.eval_loss=< 2",
        "name=again",
        "name=last",
    )
    assert (recipe.name, recipe.seed, recipe.model) == (
        "last",
        3,
        ModelSpec(path="some/model", revision="v2"),
    )
    sft, dpo = recipe.steps
    assert sft.options == {
        "learning_rate": 2e-5,
        "data": [{"path": "a.jsonl"}, {"path": "c.jsonl"}],
    }
    assert sft.gate == {"eval_loss": Bound.parse("< 2")}
    assert dpo.options == {"adapter": {"r": 16, "extra": {"deep": "yes"}}}
    assert sft.lines["learning_rate"] == "--set sft.learning_rate=2e-5"
    assert (sft.where, sft.lines["data.0.path"]) == ("r.yaml:5", "r.yaml:8")
    assert dpo.lines["adapter.extra.deep"] == "--set first-dpo.adapter.extra.deep=yes"


def test_a_list_is_set_whole(read: Callable[..., RecipeSpec], sft_dpo: str) -> None:
    step = read(sft_dpo, "sft.data=[a.jsonl,b.jsonl]").steps[0]
    assert step.options["data"] == ["a.jsonl", "b.jsonl"]
    assert step.lines["data.1"] == "--set sft.data=[a.jsonl,b.jsonl]"


def test_the_model_may_be_replaced_and_a_word_made_a_mapping(
    read: Callable[..., RecipeSpec],
) -> None:
    text = "model: a/b\nsteps: [{stage: sft}]"
    assert read(text, "model=c/d").model == ModelSpec(path="c/d")
    assert read(text, "model.revision=main").model == ModelSpec(path="a/b", revision="main")


def test_bad_overrides_are_reported_at_once(error_text: Callable[..., str], sft_dpo: str) -> None:
    message = error_text(
        sft_dpo,
        "sff.learning_rate=1",
        "sft=1",
        "sft.stage=dpo",
        "sft",
        "sft..x=1",
        "sft.data.7.path=x",
        "sft.learning_rate.x=1",
        "sft.x=[1",
        "seed=-1",
        "sft.y=!!python/name:os 1",
        "sft.a\x1b[31m=${NO}",
        "sft" + ".a" * 5000 + "=1",
    )
    assert message.splitlines() == [
        "--set sff.learning_rate=1: no step is called 'sff'",
        "  hint: did you mean 'sft'?",
        "--set sft=1: 'sft' is a step, and an override sets one of its options",
        "  hint: --set sft.OPTION=VALUE",
        "--set sft.stage=dpo: 'stage' of a step cannot be overridden",
        "  hint: edit the recipe",
        "--set sft: an override is KEY=VALUE",
        "  hint: --set STEP.OPTION=VALUE, as in --set seed=3",
        "--set sft..x=1: an override is KEY=VALUE",
        "  hint: --set STEP.OPTION=VALUE, as in --set seed=3",
        "--set sft.data.7.path=x: 'sft.data' is a list of 2, and has no entry '7'",
        "  hint: the first entry is 0",
        "--set sft.learning_rate.x=1: 'sft.learning_rate' is 1e-05, and has no entry 'x'",
        "  hint: set the whole value: --set 'sft.learning_rate={x: …}'",
        "--set sft.x=[1: the bracket that opens here has no ',' or ']'",
        "  hint: close it; put text with brackets in quotes, also '${NAME}' between brackets",
        "--set sft.y=!!python/name:os 1: the tag 'tag:yaml.org,2002:python/name:os' is not supported: "
        "a recipe contains plain data",
        "  hint: remove the tag; put the value in quotes if it begins with '!'",
        "--set sft.a\\x1b[31m=${NO}: the environment variable 'NO' is not set",
        "  hint: set it, or write ${NO:-default}",
        f"--set sft{'.a' * 28}.…: the key has more than 16 levels",
        "--set seed=-1: 'seed' is -1, not a whole number from 0 to 4294967295",
    ]
