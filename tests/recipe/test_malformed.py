"""Text that is not YAML, or hostile, is an error in plain words with its line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.errors import RecipeError
from aligner.recipe import read_recipe

MALFORMED = {
    "steps:\n\t- stage: sft\n": (
        "r.yaml:2: a tab, where YAML allows only spaces\n  hint: indent with spaces"
    ),
    "steps:\n  - stage: sft\n    eval: @home\n": (
        "r.yaml:3: text cannot begin with '@'\n  hint: put it in quotes"
    ),
    "steps:\n  - stage: sft\n    prompt: Say: hello\n": (
        "r.yaml:3: a ':' where no key is allowed\n"
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
        "r.yaml:1: the bracket that opens here has no ',' or ']'\n"
        "  hint: close it; put text with brackets in quotes, also '${NAME}' between brackets"
    ),
    "steps: [{stage: sft]\n": (
        "r.yaml:1: the bracket that opens here has no ',' or '}'\n"
        "  hint: close it; put text with brackets in quotes, also '${NAME}' between brackets"
    ),
    "steps:\n  - stage: sft\n   epochs: 1\n": (
        "r.yaml:3: this line does not match the structure of the lines above it\n"
        "  hint: check the indentation and the '-' of list entries"
    ),
    "steps: *all\n": (
        "r.yaml:1: the alias '*all' is not defined\n"
        "  hint: write '&all' before the value, earlier in the file"
    ),
    "seed: 1\n---\nseed: 2\n": (
        "r.yaml:2: a second document, or text after the end of the first\n"
        "  hint: a recipe is one document: remove the line '---', or check the indentation"
    ),
    "name: \"\\q\"\n": "r.yaml:1: an unknown escape in double quotes\n  hint: use single quotes",
    "seed: 1\nname: a\x07b\n": (
        "r.yaml:2: the character '\\x07' is not allowed in a recipe\n"
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
def test_the_error_of_malformed_text_has_its_line_and_plain_words(
    error_text: Callable[..., str], text: str
) -> None:
    assert error_text(text) == MALFORMED[text]


def test_the_error_of_text_that_is_not_utf_8_has_byte_and_line() -> None:
    Path("l.yaml").write_bytes("seed: 1\nname: Zo\xeb\n".encode("latin-1"))
    with pytest.raises(RecipeError) as caught:
        read_recipe("l.yaml")
    assert (
        str(caught.value) == "l.yaml:2: the byte 0xeb is not UTF-8\n  hint: save the file as UTF-8"
    )


def test_the_error_of_a_missing_file_suggests_the_closest_name(folder: Path) -> None:
    (folder / "zephyr.yaml").write_text("steps: [{stage: sft}]")
    (folder / "d.yaml").mkdir()
    message = []
    for path in ("zephir.yaml", "nowhere/x.yaml", "d.yaml", "a\0b.yaml"):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        message.append(str(caught.value))
    assert message == [
        "zephir.yaml: there is no such file\n  hint: did you mean 'zephyr.yaml'?",
        "nowhere/x.yaml: there is no such file\n  hint: there is no folder 'nowhere' either",
        "d.yaml: this is not a file\n  hint: name a .yaml file in it",
        "a\0b.yaml: there is no such file",
    ]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!include", "!!str", "!"]
)
def test_tags_are_refused(error_text: Callable[..., str], tag: str) -> None:
    full = tag.replace("!!", "tag:yaml.org,2002:")
    assert error_text(f"seed: 1\nname: {tag} [x]\n") == (
        f"r.yaml:2: the tag '{full}' is not supported: a recipe contains plain data\n"
        "  hint: remove the tag; put the value in quotes if it begins with '!'"
    )


def test_an_alias_bomb_is_refused_at_once(error_text: Callable[..., str]) -> None:
    bomb = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    started = time.perf_counter()
    assert error_text(bomb).endswith("more than 20000 values after its aliases are expanded")
    assert time.perf_counter() - started < 2


def test_an_alias_inside_its_own_value_is_an_error(error_text: Callable[..., str]) -> None:
    assert (
        error_text("steps: &a\n  - *a\n")
        == "r.yaml:1: an alias refers to the value that contains it"
    )


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 15_000, "- " * 20_000, "? " * 20_000])
def test_endless_nesting_is_refused_at_once(error_text: Callable[..., str], text: str) -> None:
    started = time.perf_counter()
    assert error_text(text) == "r.yaml:1: nested more than 32 levels deep"
    assert time.perf_counter() - started < 2


def test_a_file_too_large_for_a_recipe_is_refused(error_text: Callable[..., str]) -> None:
    assert error_text("# " + "x" * 70_000) == (
        "r.yaml: this has more than 64 KiB\n  hint: is it data rather than a recipe?"
    )


def test_a_device_or_pipe_is_not_opened() -> None:
    os.mkfifo("pipe.yaml")
    with pytest.raises(RecipeError) as caught:
        read_recipe("pipe.yaml")
    assert str(caught.value) == "pipe.yaml: this is not a file"


def test_the_merge_key_is_refused_rather_than_read_as_a_key(error_text: Callable[..., str]) -> None:
    assert error_text("steps:\n- &a {stage: sft}\n- <<: *a\n  as: b\n").startswith(
        "r.yaml:3: the merge key '<<' is not supported\n"
        "  hint: use an alias for one value, 'extends:' for a whole recipe"
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n" * 12_000,
        "- x\n" * 15_000,
        "name: " + "${A" * 20_000,
        "name: " + "${A:-x}" * 8_000,
        "steps: [{stage: a, gate: {x: '" + "1" * 60_000 + "'}}]",
        "steps: [{stage: a, gate: {x: '" + "> 1 and " * 7_000 + "'}}]",
        "x: '" + "'' " * 20_000,
        "&a " * 20_000,
        "k" * 60_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_large_file_is_refused_within_seconds(error_text: Callable[..., str], text: str) -> None:
    started = time.perf_counter()
    assert error_text(text)
    assert time.perf_counter() - started < 6


def test_control_characters_are_escaped(error_text: Callable[..., str]) -> None:
    message = error_text(
        'extends: "\\e[31m.yaml"\n"\\e[32m": 1\nsteps: [{stage: "\\e[33m"}, "\\e[34m"]'
    )
    assert message.splitlines() == [
        "r.yaml:1: 'extends' is '\\x1b[31m.yaml', which is no path",
        "r.yaml:2: a recipe has no key '\\x1b[32m'",
        "  hint: known: description, drop, extends, model, name, seed, steps",
        "r.yaml:3: '\\x1b[33m' cannot name a step",
        "  hint: 1 to 64 letters, digits, '-' and '_', a letter or digit first",
        "r.yaml:3: a step is '\\x1b[34m', not a mapping",
        "  hint: begin it with '- stage: NAME', its options on the lines below",
    ]
