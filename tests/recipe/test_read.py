"""A recipe is read with the line of every option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.errors import ErrorGroup, RecipeError
from aligner.recipe import Bound, ModelSpec, RecipeSpec, StepSpec, read_recipe, recipe_from


def test_a_recipe_is_read_with_the_line_of_every_option(
    read: Callable[..., RecipeSpec], sft_dpo: str, folder: Path
) -> None:
    assert read(sft_dpo) == RecipeSpec(
        name="r",
        description="A small chain",
        model=ModelSpec(path="some/model", revision="main"),
        model_where="r.yaml:3",
        seed=17,
        steps=(
            StepSpec(
                stage="sft",
                name="sft",
                options={"learning_rate": 1e-5, "data": [{"path": "a.jsonl"}, "b.jsonl"]},
                gate={"eval_loss": Bound((("<", 2.5),))},
                where="r.yaml:5",
                lines={
                    "stage": "r.yaml:5",
                    "learning_rate": "r.yaml:6",
                    "data": "r.yaml:7",
                    "data.0": "r.yaml:8",
                    "data.0.path": "r.yaml:8",
                    "data.1": "r.yaml:9",
                    "gate": "r.yaml:10",
                    "gate.eval_loss": "r.yaml:10",
                },
            ),
            StepSpec(
                stage="dpo",
                name="first-dpo",
                options={"adapter": {"r": 8}},
                where="r.yaml:11",
                lines={
                    "stage": "r.yaml:11",
                    "as": "r.yaml:12",
                    "adapter": "r.yaml:13",
                    "adapter.r": "r.yaml:14",
                },
            ),
        ),
        path=Path("r.yaml"),
        folder=Path("."),
    )


def test_a_missing_option_has_the_location_of_the_entry_around_it(
    read: Callable[..., RecipeSpec], sft_dpo: str
) -> None:
    step = read(sft_dpo).steps[0]
    assert step.at("data.0.format") == "r.yaml:8"
    assert step.at("batch_size") == "r.yaml:5"


def test_a_recipe_may_leave_out_all_but_its_steps(read: Callable[..., RecipeSpec]) -> None:
    recipe = read("steps: [{stage: pretrain}]")
    assert (recipe.name, recipe.model, recipe.model_where, recipe.seed) == (
        "r",
        None,
        "r.yaml:1",
        0,
    )


def test_a_model_may_be_given_as_one_word(read: Callable[..., RecipeSpec]) -> None:
    assert read("model: a/b\nsteps: [{stage: sft}]").model == ModelSpec(path="a/b", revision=None)


def test_a_recipe_is_shown_by_the_path_it_was_given(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "x.yaml").write_text("steps: []")
    with pytest.raises(RecipeError) as caught:
        read_recipe("./sub/../sub/x.yaml")
    assert str(caught.value) == (
        "./sub/../sub/x.yaml:1: the recipe has no steps\n"
        "  hint: write 'steps:', a list whose entries begin with '- stage: NAME'"
    )


@pytest.mark.parametrize(
    "text", ["steps: [{stage: sft}]", "name: a.b\nsteps: [{stage: x, gate: {e: 1 .. 2}}]"]
)
def test_a_recipe_written_out_reads_back_the_same(
    read: Callable[..., RecipeSpec],
    assert_reads_back: Callable[[RecipeSpec], None],
    sft_dpo: str,
    text: str,
) -> None:
    assert_reads_back(read(text))
    assert_reads_back(read(sft_dpo))


def test_numbers_are_those_of_yaml_1_2(options: Callable[..., dict[str, Any]]) -> None:
    read_as = options(
        """\
        a: 1e-5
        b: 1E5
        c: .5
        d: -3
        e: 017
        f: 0x1F
        g: 1.
        h: -.inf
        """
    )
    assert read_as == {
        "a": 1e-5, "b": 1e5, "c": 0.5, "d": -3, "e": 17, "f": 31, "g": 1.0, "h": -float("inf"),
    }  # fmt: skip
    assert {type(read_as[key]) for key in "def"} == {int}


def test_words_that_yaml_1_1_would_turn_into_something_else_stay_text(
    options: Callable[..., dict[str, Any]],
) -> None:
    text = "a: yes\nb: off\nc: 12:30:45\nd: 2024-01-01\ne: n\nf: 1_000\ng: '1e-5'\nyes: no"
    assert options(text) == {
        "a": "yes", "b": "off", "c": "12:30:45", "d": "2024-01-01", "e": "n", "f": "1_000",
        "g": "1e-5", "yes": "no",
    }  # fmt: skip


def test_only_true_false_and_null_are_switches_and_nothing(
    options: Callable[..., dict[str, Any]],
) -> None:
    assert options("a: true\nb: False\nc:\nd: ~\ne: null\nf: ''") == {
        "a": True, "b": False, "c": None, "d": None, "e": None, "f": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (".nan", "'.nan' is not a number"),
        ("1e999", "'1e999' is too large for a number"),
        ("9" * 5000, f"'{'9' * 59}… (5000 characters) has more than 100 digits"),
    ],
)
def test_a_number_that_is_none_is_refused(
    error_text: Callable[..., str], value: str, what: str
) -> None:
    assert error_text(f"steps:\n  - stage: sft\n    x: {value}") == f"r.yaml:3: {what}"


def test_an_alias_repeats_a_value_and_keeps_its_lines(read: Callable[..., RecipeSpec]) -> None:
    text = "steps:\n- stage: sft\n  lora: &lora\n    r: 8\n- stage: dpo\n  lora: *lora\n"
    second = read(text).steps[1]
    assert second.options == {"lora": {"r": 8}}
    assert (second.lines["lora"], second.lines["lora.r"]) == ("r.yaml:6", "r.yaml:4")


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    Path("w.yaml").write_bytes(b"\xef\xbb\xbfsteps:\r\n  - stage: sft\r\n    a: 1\r\n    b: 2\r\n")
    step = read_recipe("w.yaml").steps[0]
    assert (step.options, step.lines["b"]) == ({"a": 1, "b": 2}, "w.yaml:4")


def test_a_recipe_built_in_python_is_the_same_as_one_read(
    read: Callable[..., RecipeSpec],
    essence: Callable[[RecipeSpec], tuple[Any, ...]],
    sft_dpo: str,
    folder: Path,
) -> None:
    made = recipe_from(
        {
            "name": "r",
            "description": "A small chain",
            "seed": 17,
            "model": {"path": Path("some/model"), "revision": "main"},
            "steps": [
                {
                    "stage": "sft",
                    "learning_rate": 1e-5,
                    "data": ({"path": "a.jsonl"}, "b.jsonl"),
                    "gate": {"eval_loss": "< 2.5"},
                },
                {"stage": "dpo", "as": "first-dpo", "adapter": {"r": 8}},
            ],
        },
        folder=folder,
    )
    assert essence(made) == essence(read(sft_dpo))
    assert (made.path, made.folder, made.where, made.model_where) == (
        None,
        folder,
        "recipe",
        "model",
    )
    assert (made.steps[1].where, made.steps[0].lines["data.0.path"]) == (
        "steps[1]",
        "steps[0].data[0].path",
    )


def test_errors_of_a_recipe_built_in_python_have_locations(folder: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ErrorGroup) as caught:
        recipe_from(
            {
                "seed": 1.5,
                "steps": [
                    {"stage": "sft", "x": {1, 2}, 3: 4, "y": float("nan")},
                    {"stage": "sft", "z": "${HOME}"},
                ],
            },
            folder=folder,
        )
    assert str(caught.value).splitlines() == [
        "steps[0].x: a set is neither text, number, list nor mapping",
        "steps[0]: the key 3 is not a word",
        "steps[0].y: nan is not a number",
        "steps[1]: two steps are called 'sft'",
        "  hint: the first is at steps[0]; give one its own name with 'as:'",
        "seed: 'seed' is 1.5, not a whole number from 0 to 4294967295",
    ]
    with pytest.raises(RecipeError) as deep:
        recipe_from({"steps": endless}, folder=folder)
    assert deep.value.what == "nested more than 32 levels deep"


def test_variables_in_a_recipe_built_in_python_are_text(
    assert_reads_back: Callable[[RecipeSpec], None], folder: Path
) -> None:
    recipe = recipe_from({"steps": [{"stage": "sft", "x": "${HOME}"}]}, folder=folder)
    assert recipe.steps[0].options == {"x": "${HOME}"}
    assert_reads_back(recipe)


@pytest.mark.parametrize(
    "word", ["1e-5", "1e5", "0x1F", "017", "true", "~", "", ".5", ".nan", "no"]
)
def test_text_that_looks_like_something_else_is_written_out_as_text(
    assert_reads_back: Callable[[RecipeSpec], None], folder: Path, word: str
) -> None:
    assert_reads_back(recipe_from({"steps": [{"stage": "sft", "x": word}]}, folder=folder))


def test_a_number_too_long_to_print_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from({"seed": 10**5000, "steps": [{"stage": "sft"}]}, folder=folder)
    assert str(caught.value) == "seed: a number of more than 100 digits"
