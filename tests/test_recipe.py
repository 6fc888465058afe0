"""Recipes are read whole, or refused with every fault at its file and line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aligner.errors import AlignerError, Faults, RecipeError
from aligner.recipe import Bound, ModelSpec, Recipe, Step, read_recipe, recipe_from
from aligner.recipe.sheet import KEYS as KEYS_OF_A_RECIPE

SFT_DPO = """\
    description: A small chain
    seed: 17
    model: {path: some/model, revision: main}
    steps:
      - stage: sft
        learning_rate: 1e-5
        data:
          - path: a.jsonl
          - b.jsonl
        gate: {eval_loss: "< 2.5"}
      - stage: dpo
        as: first-dpo
        adapter:
          r: 8
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, so that complaints show paths as given: `r.yaml`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, *overrides: str, **environment: str) -> Recipe:
    Path("r.yaml").write_text(dedent(text), encoding="utf-8")
    return read_recipe("r.yaml", overrides=overrides, environment=environment)


def complaint(text: str, *overrides: str, **environment: str) -> str:
    with pytest.raises(AlignerError) as caught:
        read(text, *overrides, **environment)
    return str(caught.value)


def options(text: str, **environment: str) -> dict[str, Any]:
    """Options of the only step, whose lines are `text`."""
    lines = "".join(f"    {line}\n" for line in dedent(text).splitlines())
    return read(f"steps:\n  - stage: sft\n{lines}", **environment).steps[0].options


# -- what a recipe is ------------------------------------------------------------------------


def test_a_recipe_is_read_with_the_line_of_every_option(folder: Path) -> None:
    assert read(SFT_DPO) == Recipe(
        name="r",
        description="A small chain",
        model=ModelSpec(path="some/model", revision="main"),
        model_where="r.yaml:3",
        seed=17,
        steps=(
            Step(
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
            Step(
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


def test_a_place_that_is_not_written_is_that_of_what_surrounds_it(folder: Path) -> None:
    step = read(SFT_DPO).steps[0]
    assert step.at("data.0.format") == "r.yaml:8"
    assert step.at("batch_size") == "r.yaml:5"


def test_a_recipe_may_leave_out_all_but_its_steps(folder: Path) -> None:
    recipe = read("steps: [{stage: pretrain}]")
    assert (recipe.name, recipe.model, recipe.model_where, recipe.seed) == (
        "r",
        None,
        "r.yaml:1",
        0,
    )


def test_a_model_may_be_given_as_one_word(folder: Path) -> None:
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
    "text", [SFT_DPO, "steps: [{stage: sft}]", "name: a.b\nsteps: [{stage: x, gate: {e: 1 .. 2}}]"]
)
def test_a_recipe_written_out_reads_back_the_same(folder: Path, text: str) -> None:
    assert_reads_back(read(text))


def assert_reads_back(recipe: Recipe) -> None:
    Path("again.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    again = read_recipe("again.yaml", environment={})
    assert essence(again) == essence(recipe)


def essence(recipe: Recipe) -> tuple[Any, ...]:
    steps = [(step.stage, step.name, step.options, step.gate) for step in recipe.steps]
    return recipe.name, recipe.description, recipe.model, recipe.seed, steps


# -- values ----------------------------------------------------------------------------------


def test_numbers_are_those_of_yaml_1_2(folder: Path) -> None:
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


def test_words_that_yaml_1_1_would_turn_into_something_else_stay_text(folder: Path) -> None:
    text = "a: yes\nb: off\nc: 12:30:45\nd: 2024-01-01\ne: n\nf: 1_000\ng: '1e-5'\nyes: no"
    assert options(text) == {
        "a": "yes", "b": "off", "c": "12:30:45", "d": "2024-01-01", "e": "n", "f": "1_000",
        "g": "1e-5", "yes": "no",
    }  # fmt: skip


def test_only_true_false_and_null_are_switches_and_nothing(folder: Path) -> None:
    assert options("a: true\nb: False\nc:\nd: ~\ne: null\nf: ''") == {
        "a": True, "b": False, "c": None, "d": None, "e": None, "f": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (".nan", "'.nan' is not a number"),
        ("1e999", "'1e999' is larger than any number here can be"),
        ("9" * 5000, f"'{'9' * 59}… (5000 characters) has more than 100 digits"),
    ],
)
def test_a_number_that_is_none_is_refused(folder: Path, value: str, what: str) -> None:
    assert complaint(f"steps:\n  - stage: sft\n    x: {value}") == f"r.yaml:3: {what}"


def test_an_alias_repeats_a_value_and_keeps_its_lines(folder: Path) -> None:
    text = "steps:\n- stage: sft\n  lora: &lora\n    r: 8\n- stage: dpo\n  lora: *lora\n"
    second = read(text).steps[1]
    assert second.options == {"lora": {"r": 8}}
    assert (second.lines["lora"], second.lines["lora.r"]) == ("r.yaml:6", "r.yaml:4")


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder: Path) -> None:
    Path("w.yaml").write_bytes(b"\xef\xbb\xbfsteps:\r\n  - stage: sft\r\n    a: 1\r\n    b: 2\r\n")
    step = read_recipe("w.yaml").steps[0]
    assert (step.options, step.lines["b"]) == ({"a": 1, "b": 2}, "w.yaml:4")


# -- malformed text --------------------------------------------------------------------------

MALFORMED = {
    "steps:\n\t- stage: sft\n": (
        "r.yaml:2: a tab, where YAML allows only spaces\n  hint: indent with spaces"
    ),
    "steps:\n  - stage: sft\n    eval: @home\n": (
        "r.yaml:3: text cannot begin with '@'\n  hint: put it in quotes"
    ),
    "steps:\n  - stage: sft\n    prompt: Say: hello\n": (
        "r.yaml:3: a ':' stands where no key can be\n"
        "  hint: check the indentation; put text that contains ': ' in quotes"
    ),
    "steps:\n  - stage: sft\n    learning_rate 3\n    epochs: 1\n": (
        "r.yaml:3: a key without ':'\n"
        "  hint: write 'key: value'; put text of several lines in quotes"
    ),
    "seed: 1\nmodel\nsteps: []\n": (
        "r.yaml:2: a key without ':'\n"
        "  hint: write 'key: value'; put text of several lines in quotes"
    ),
    "steps:\n  - stage: sft\n    gate: {}\n    x: > 0.9\n": (
        "r.yaml:4: a value that begins with '>' or '|' is read as a block of text\n"
        '  hint: put it in quotes: "> 0.9"'
    ),
    'name: "x\nsteps: []\n':
        "r.yaml:1: the quote that opens here is never closed\n  hint: close it",
    "steps: [{stage: sft}\nseed: 1\n": (
        "r.yaml:1: the bracket that opens here lacks a ',' or its ']'\n"
        "  hint: close it; put text with brackets in quotes, also '${NAME}' between brackets"
    ),
    "steps: [{stage: sft]\n": (
        "r.yaml:1: the bracket that opens here lacks a ',' or its '}'\n"
        "  hint: close it; put text with brackets in quotes, also '${NAME}' between brackets"
    ),
    "steps:\n  - stage: sft\n   epochs: 1\n": (
        "r.yaml:3: this line does not fit the ones above it\n"
        "  hint: check the indentation and the '-' of list entries"
    ),
    "steps: *all\n": (
        "r.yaml:1: the alias '*all' names nothing\n"
        "  hint: write '&all' at the value it stands for, earlier in the file"
    ),
    "seed: 1\n---\nseed: 2\n": (
        "r.yaml:2: a second document, or text after the end of the first\n"
        "  hint: a recipe is one document: remove the line '---', or check the indentation"
    ),
    "name: \"\\q\"\n": "r.yaml:1: an unknown escape in double quotes\n  hint: use single quotes",
    "seed: 1\nname: a\x07b\n": (
        "r.yaml:2: the character '\\x07' cannot stand in a recipe\n"
        '  hint: remove it, or write it as an escape in double quotes: "\\u0000"'
    ),
    "": (
        "r.yaml: the recipe is empty\n"
        "  hint: it needs at least 'steps:', a list whose entries begin with '- stage: NAME'"
    ),
    "# nothing\n": (
        "r.yaml: the recipe is empty\n"
        "  hint: it needs at least 'steps:', a list whose entries begin with '- stage: NAME'"
    ),
    "- stage: sft\n": (
        "r.yaml:1: a recipe is a mapping of keys, and this is a list\n"
        "  hint: keys: name, description, extends, drop, seed, model, steps"
    ),
    "sft\n": (
        "r.yaml:1: a recipe is a mapping of keys, and this is 'sft'\n"
        "  hint: keys: name, description, extends, drop, seed, model, steps"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_text_is_named_with_its_line_in_plain_words(folder: Path, text: str) -> None:
    assert complaint(text) == MALFORMED[text]


def test_text_that_is_not_utf_8_is_named_with_its_byte_and_line(folder: Path) -> None:
    Path("l.yaml").write_bytes("seed: 1\nname: Zo\xeb\n".encode("latin-1"))
    with pytest.raises(RecipeError) as caught:
        read_recipe("l.yaml")
    assert (
        str(caught.value) == "l.yaml:2: the byte 0xeb is not UTF-8\n  hint: save the file as UTF-8"
    )


def test_a_file_that_is_not_there_is_named_with_the_nearest(folder: Path) -> None:
    (folder / "zephyr.yaml").write_text("steps: [{stage: sft}]")
    (folder / "d.yaml").mkdir()
    said = []
    for path in ("zephir.yaml", "nowhere/x.yaml", "d.yaml", "a\0b.yaml"):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        said.append(str(caught.value))
    assert said == [
        "zephir.yaml: there is no such file\n  hint: did you mean 'zephyr.yaml'?",
        "nowhere/x.yaml: there is no such file\n  hint: there is no folder 'nowhere' either",
        "d.yaml: this is not a file\n  hint: name a .yaml file in it",
        "a\0b.yaml: there is no such file",
    ]


# -- hostile text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!include", "!!str", "!"]
)
def test_tags_are_refused(folder: Path, tag: str) -> None:
    full = tag.replace("!!", "tag:yaml.org,2002:")
    assert complaint(f"seed: 1\nname: {tag} [x]\n") == (
        f"r.yaml:2: the tag '{full}' is not read: a recipe holds plain data\n"
        "  hint: leave the tag out; put the value in quotes if it begins with '!'"
    )


def test_an_alias_bomb_is_refused_at_once(folder: Path) -> None:
    bomb = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    started = time.perf_counter()
    assert complaint(bomb).endswith("more than 20000 values once its aliases are written out")
    assert time.perf_counter() - started < 2


def test_an_alias_inside_what_it_names_is_refused(folder: Path) -> None:
    assert complaint("steps: &a\n  - *a\n") == "r.yaml:1: an alias stands inside the value it names"


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 20_000, "- " * 20_000, "? " * 20_000])
def test_endless_nesting_is_refused_at_once(folder: Path, text: str) -> None:
    started = time.perf_counter()
    assert complaint(text) == "r.yaml:1: nested more than 32 levels deep"
    assert time.perf_counter() - started < 2


def test_a_file_too_large_for_a_recipe_is_refused(folder: Path) -> None:
    assert complaint("# " + "x" * 300_000) == (
        "r.yaml: this has more than 256 KiB\n  hint: is it data rather than a recipe?"
    )


def test_a_device_or_pipe_is_not_opened(folder: Path) -> None:
    os.mkfifo("pipe.yaml")
    with pytest.raises(RecipeError) as caught:
        read_recipe("pipe.yaml")
    assert str(caught.value) == "pipe.yaml: this is not a file"


def test_the_merge_key_is_refused_rather_than_read_as_a_key(folder: Path) -> None:
    assert complaint("steps:\n- &a {stage: sft}\n- <<: *a\n  as: b\n").startswith(
        "r.yaml:3: the merge key '<<' is not read\n"
        "  hint: repeat one value by an alias, or a whole recipe by 'extends:'"
    )


# -- faults, all at once ---------------------------------------------------------------------


def test_every_fault_of_a_recipe_is_reported_at_once(folder: Path) -> None:
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
    assert complaint(text).splitlines() == [
        "r.yaml:1: a recipe has no key 'naem'",
        "  hint: did you mean 'name'?",
        "r.yaml:2: 'seed' is 'soon', not a whole number from 0 to 4294967295",
        "r.yaml:3: 'model' has no key 'pth'",
        "  hint: did you mean 'path'?",
        "r.yaml:3: 'model' needs 'path'",
        "  hint: write 'model: FOLDER_OR_HUB_ID', or 'model: {path: …, revision: …}'",
        "r.yaml:7: 'lr' is written twice",
        "  hint: the first is at r.yaml:6; keep one of them",
        "r.yaml:8: two steps are called 'sft'",
        "  hint: the first is at r.yaml:5; give one its own name with 'as:'",
        "r.yaml:9: a step is 'sft', not a mapping",
        "  hint: begin it with '- stage: NAME', its options on the lines below",
        "r.yaml:10: a step says neither 'stage' nor 'as'",
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
    ("text", "said"),
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
         "r.yaml:3: 'gate' is 'small', not a mapping from figures to bounds\n"
         "  hint: gate: {eval_loss: \"< 2.5\"}"),
        ("steps:\n- {stage: a}\n- {stage: b, after: a, before: a}",
         "r.yaml:3: step 'b' says both 'after' and 'before'\n  hint: keep one"),
        ("drop: [a]\nsteps: [{stage: b}]",
         "r.yaml:1: 'drop' names 'a', and this recipe extends no other\n"
         "  hint: delete the step itself"),
        ("steps: [{stage: b}]\n? [a]\n: 1", "r.yaml:2: a key must be a word"),
    ],
)  # fmt: skip
def test_one_fault_is_said_in_full(folder: Path, text: str, said: str) -> None:
    assert complaint(text) == said


def test_a_fault_beside_a_recipe_that_is_no_mapping_is_still_reported(folder: Path) -> None:
    assert complaint("- a: ${NO}\n").splitlines()[0] == (
        "r.yaml:1: the environment variable 'NO' is not set"
    )


# -- gates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "shown", "inside", "outside"),
    [
        ("< 2.5", "< 2.5", 2.49, 2.5),
        ("<= 2.5", "<= 2.5", 2.5, 2.51),
        (">0.9", "> 0.9", 0.91, 0.9),
        (">= 9e-1", ">= 0.9", 0.9, 0.89),
        ("0.1 .. 0.5", "0.1 .. 0.5", 0.5, 0.51),
        ("1..2", "1.0 .. 2.0", 1.0, 0.99),
        ("> -1 and < 1", "> -1.0 and < 1.0", 0.0, 1.0),
        ("1 .. 1", "1.0 .. 1.0", 1.0, 1.01),
    ],
)
def test_a_bound_holds_inside_and_not_outside(
    written: str, shown: str, inside: float, outside: float
) -> None:
    bound = Bound.parse(written)
    assert (str(bound), bound.holds(inside), bound.holds(outside)) == (shown, True, False)
    assert Bound.parse(str(bound)) == bound


def test_no_bound_holds_for_what_is_not_a_number() -> None:
    assert not Bound.parse("<= 1e300").holds(float("nan"))


@pytest.mark.parametrize(
    "text",
    ["", "2.5", "< x", "== 2", "< 1e999", "< nan", "< 1 or > 2", "1 .. ", "> 1 and", "<\u0663"],
)
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a bound$"):
        Bound.parse(text)


@pytest.mark.parametrize("text", ["2 .. 1", "> 1 and < 1", "> 1 and <= 1", ">= 2 and < 1"])
def test_a_bound_that_no_number_can_meet_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a bound that no number can meet$"):
        Bound.parse(text)


# -- environment -----------------------------------------------------------------------------


def test_a_variable_is_put_in_where_it_is_written_and_nowhere_else(folder: Path) -> None:
    text = "a: ${HOME}/x\nb: ${NO:-here}\nc: $HOME\nd: $${HOME}\ne: ${EMPTY:-e}${EMPTY}"
    assert options(text, HOME="/h", EMPTY="") == {
        "a": "/h/x", "b": "here", "c": "$HOME", "d": "${HOME}", "e": "e",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", ["[1, 2]", "a: b", "x\n- stage: evil", "!!python/name:os", "1e-5", "${B}", "'"]
)
def test_the_value_of_a_variable_stays_text(folder: Path, value: str) -> None:
    assert options("a: ${A}\nb: ['${A}']", A=value, B="no") == {"a": value, "b": [value]}


def test_a_variable_may_hold_the_seed(folder: Path) -> None:
    assert read("seed: ${SEED}\nsteps: [{stage: sft}]", SEED="12").seed == 12


def test_bad_variables_are_reported_at_once(folder: Path) -> None:
    text = """\
        name: ${RUN}
        steps:
          - stage: sft
            data: ${DATAA}/a.jsonl
            out: ${DATA
            b: ${1x}
            token: ${HF_TOKEN}
    """
    assert complaint(text, DATA="/d", HF_TOKEN="hf_secret").splitlines() == [
        "r.yaml:1: the environment variable 'RUN' is not set",
        "  hint: set it, or write ${RUN:-default}",
        "r.yaml:4: the environment variable 'DATAA' is not set",
        "  hint: did you mean 'DATA'?",
        "r.yaml:5: '${DATA' is not a variable",
        "  hint: write ${NAME} or ${NAME:-default}; for the characters themselves, $${",
        "r.yaml:6: '${1x}' is not a variable",
        "  hint: write ${NAME} or ${NAME:-default}; for the characters themselves, $${",
        "r.yaml:7: the variable 'HF_TOKEN' looks like a secret, and a run keeps its recipe",
        "  hint: leave it out: the libraries read tokens from the environment themselves",
    ]


def test_names_that_only_resemble_secrets_are_read(folder: Path) -> None:
    assert options("a: ${MAX_TOKENS}${TOKENIZER}", MAX_TOKENS="5", TOKENIZER="t") == {"a": "5t"}


# -- extends ---------------------------------------------------------------------------------


def family(**texts: str) -> None:
    for name, text in texts.items():
        path = Path(name.replace("__", "/") + ".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")


def test_a_recipe_is_laid_over_the_one_it_extends(folder: Path) -> None:
    family(
        shared__base="""\
            name: base
            description: The parent
            seed: 17
            model: {path: a/b, revision: main}
            steps:
              - stage: sft
                data: a.jsonl
                adapter: {r: 8, alpha: 16}
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
                {"data": "a.jsonl", "adapter": {"r": 16, "alpha": 16}},
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
    assert {key: sft.lines[key] for key in ("data", "adapter.r", "adapter.alpha")} == {
        "data": "shared/base.yaml:7",
        "adapter.r": "child.yaml:7",
        "adapter.alpha": "shared/base.yaml:8",
    }
    assert_reads_back(recipe)


def test_until_takes_the_steps_up_to_and_with_one(folder: Path) -> None:
    family(
        a="steps: [{stage: chat}, {stage: sft}, {stage: reward}, {stage: dpo}]",
        b="extends: {recipe: a.yaml, until: reward}\nsteps: [{stage: ppo}]",
        c="extends: {recipe: b.yaml, until: sft}",
    )
    names = [[step.name for step in read_recipe(f"{one}.yaml").steps] for one in "bc"]
    assert names == [["chat", "sft", "reward", "ppo"], ["chat", "sft"]]


def test_faults_between_recipes_name_both_files(folder: Path) -> None:
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
    with pytest.raises(Faults) as caught:
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
        "  hint: it keeps its place; or 'drop: [dpo]' and write it under a new name",
        "r.yaml:11: 'after' names no step before this one: 'rewrad'",
        "  hint: known: dpo, sft",
    ]


def test_recipes_that_extend_one_another_in_a_circle_are_refused(folder: Path) -> None:
    family(a="extends: b.yaml", b="seed: 1\nextends: a.yaml")
    with pytest.raises(RecipeError) as caught:
        read_recipe("a.yaml")
    assert str(caught.value) == (
        "b.yaml:2: recipes extend one another in a circle\n"
        "  hint: the circle: a.yaml → b.yaml → a.yaml"
    )


def test_a_long_line_of_recipes_is_refused(folder: Path) -> None:
    family(**{f"r{n}": f"extends: r{n + 1}.yaml" for n in range(30)}, r30="steps: [{stage: sft}]")
    with pytest.raises(RecipeError) as caught:
        read_recipe("r0.yaml")
    assert str(caught.value) == "r15.yaml:1: more than 16 recipes extend one another"


HOW = "  hint: write 'extends: base.yaml', or 'extends: {recipe: base.yaml, until: STEP}'"


@pytest.mark.parametrize(
    ("extends", "said"),
    [
        ("gone.yaml", "r.yaml:1: the recipe it extends, gone.yaml, does not exist"),
        (
            "https://x.org/a.yaml",
   "r.yaml:1: 'extends' is the URL 'https://x.org/a.yaml'\n"
            "  hint: save it beside this recipe",
        ),
        ("/etc/passwd", "r.yaml:1: 'extends' is '/etc/passwd', not the path of a .yaml file"),
        ("[a.yaml]", f"r.yaml:1: 'extends' is a list, not the path of a recipe\n{HOW}"),
        ("{until: sft}", f"r.yaml:1: 'extends' needs 'recipe'\n{HOW}"),
        ("{recipe: a.yaml, upto: b}", f"r.yaml:1: 'extends' has no key 'upto'\n{HOW}"),
        ("{recipe: 3}", f"r.yaml:1: 'recipe' is 3, not text\n{HOW}"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended_is_refused(folder: Path, extends: str, said: str) -> None:
    assert complaint(f"extends: {extends}\nsteps: [{{as: sft, beta: 1}}]") == said


def test_malformed_text_in_an_extended_recipe_is_placed_there(folder: Path) -> None:
    family(base="steps: [")
    assert complaint("extends: base.yaml").startswith("base.yaml:1: ")


# -- overrides -------------------------------------------------------------------------------


def test_overrides_are_laid_over_what_is_written(folder: Path) -> None:
    recipe = read(
        SFT_DPO,
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


def test_a_list_is_set_whole(folder: Path) -> None:
    step = read(SFT_DPO, "sft.data=[a.jsonl,b.jsonl]").steps[0]
    assert step.options["data"] == ["a.jsonl", "b.jsonl"]
    assert step.lines["data.1"] == "--set sft.data=[a.jsonl,b.jsonl]"


def test_the_model_may_be_replaced_and_a_word_made_a_mapping(folder: Path) -> None:
    text = "model: a/b\nsteps: [{stage: sft}]"
    assert read(text, "model=c/d").model == ModelSpec(path="c/d")
    assert read(text, "model.revision=main").model == ModelSpec(path="a/b", revision="main")


def test_bad_overrides_are_reported_at_once(folder: Path) -> None:
    said = complaint(
        SFT_DPO,
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
    )
    assert said.splitlines() == [
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
        "  hint: set all of it: --set 'sft.learning_rate={x: …}'",
        "--set sft.x=[1: the bracket that opens here lacks a ',' or its ']'",
        "  hint: close it; put text with brackets in quotes, also '${NAME}' between brackets",
        "--set sft.y=!!python/name:os 1: the tag 'tag:yaml.org,2002:python/name:os' is not read: "
        "a recipe holds plain data",
        "  hint: leave the tag out; put the value in quotes if it begins with '!'",
        "--set 'sft.a\\x1b[31m=${NO}': the environment variable 'NO' is not set",
        "  hint: set it, or write ${NO:-default}",
        "--set seed=-1: 'seed' is -1, not a whole number from 0 to 4294967295",
    ]


# -- from Python -----------------------------------------------------------------------------


def test_a_recipe_made_in_python_is_the_same_as_one_read(folder: Path) -> None:
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
    assert essence(made) == essence(read(SFT_DPO))
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


def test_faults_of_a_recipe_made_in_python_name_their_place(folder: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Faults) as caught:
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


def test_variables_in_a_recipe_made_in_python_are_text(folder: Path) -> None:
    recipe = recipe_from({"steps": [{"stage": "sft", "x": "${HOME}"}]}, folder=folder)
    assert recipe.steps[0].options == {"x": "${HOME}"}
    assert_reads_back(recipe)


# -- anything at all -------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)  # fmt: skip
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
OPTIONS = st.dictionaries(
    KEYS.filter(lambda key: key not in ("stage", "as", "gate", "after", "before")),
    st.recursive(
        SCALARS,
        lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(options=OPTIONS)
def test_any_options_written_out_read_back_the_same(folder: Path, options: dict[str, Any]) -> None:
    recipe = recipe_from({"name": "x", "steps": [{"stage": "sft", **options}]}, folder=folder)
    assert recipe.steps[0].options == options
    assert_reads_back(recipe)


FRAGMENTS = st.sampled_from(
    [
        "steps:", "stage: sft", "- ", "\n", "  ", "    ", "\t", "as: ", "gate: {a: '< 1'}",
        "extends: ", "r.yaml", "drop: ", "model: ", "seed: ", "${HOME}", "${", "}", "{", "[", "]",
        ",", ": ", "&a ", "*a", "!!", "!", "|", ">", "'", "\"", "#", "---", "...", "%YAML 1.2",
        "<<: *a", "? ", "1e5", "0x", "~", "@", "\ufeff", "\x00", "\u2028", "\x85", "\r",
        "after: sft", "until: sft", "after: ", "before: sft", "name: x",
    ]
)  # fmt: skip


@settings(
    max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.lists(FRAGMENTS | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_is_a_recipe_or_a_complaint(folder: Path, text: str) -> None:
    Path("r.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        recipe = read_recipe("r.yaml", environment={"HOME": "/h"})
    except AlignerError:
        return
    assert recipe.steps
    assert_reads_back(recipe)


@settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_recipe_or_a_complaint(folder: Path, raw: bytes) -> None:
    Path("r.yaml").write_bytes(raw)
    with pytest.raises(AlignerError):
        read_recipe("r.yaml", environment={})


@settings(
    max_examples=200, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(max_size=20)
    | st.builds("sft.{}={}".format, st.text(max_size=5), st.text(max_size=9))
)
def test_any_override_is_laid_over_or_complained_about(folder: Path, text: str) -> None:
    try:
        recipe = read(SFT_DPO, text)
    except AlignerError:
        return
    assert_reads_back(recipe)


# -- the documentation -----------------------------------------------------------------------

DOCUMENTATION = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")


def documented(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", DOCUMENTATION, re.MULTILINE | re.DOTALL)


def test_recipes_in_the_documentation_read_as_it_says(folder: Path) -> None:
    shown = documented("yaml")
    names = [text.split("\n")[0].removeprefix("# ") for text in shown]
    assert names == ["recipes/tiny.yaml", "recipes/three-betas.yaml", "broken.yaml"]
    (folder / "recipes").mkdir()
    for name, text in zip(names, shown, strict=True):
        Path(name).write_text(text, encoding="utf-8")
    assert [step.name for step in read_recipe(names[1]).steps] == ["chat", "sft", "look", "dpo"]
    with pytest.raises(Faults) as caught:
        read_recipe("broken.yaml")
    assert f"{caught.value}\n" == documented("text")[0]


def test_python_in_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = documented("python")
    exec(compile(code, "recipes.md", "exec"), {})
    assert capsys.readouterr().out == (
        "name: tiny\n"
        "seed: 0\n"
        "model: HuggingFaceTB/SmolLM2-135M\n"
        "steps:\n"
        "- stage: sft\n"
        "  data: instructions.jsonl\n"
        "\n"
    )


def test_every_key_is_in_the_documentation() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", DOCUMENTATION, re.MULTILINE)
    assert [row.strip("`") for row in rows[: len(KEYS_OF_A_RECIPE)]] == list(KEYS_OF_A_RECIPE)


def test_reading_a_recipe_loads_nothing_heavy() -> None:
    code = (
        "import sys, aligner.recipe, aligner.options, aligner.schema;"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout == "[]\n"
