"""Environment variables are replaced in recipes, and stay text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aligner.recipe import RecipeSpec


def test_only_variables_in_braces_are_replaced(
    options: Callable[..., dict[str, Any]],
) -> None:
    text = "a: ${HOME}/x\nb: ${NO:-here}\nc: $HOME\nd: $${HOME}\ne: ${EMPTY:-e}${EMPTY}"
    assert options(text, HOME="/h", EMPTY="") == {
        "a": "/h/x", "b": "here", "c": "$HOME", "d": "${HOME}", "e": "e",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", ["[1, 2]", "a: b", "x\n- stage: evil", "!!python/name:os", "1e-5", "${B}", "'"]
)
def test_the_value_of_a_variable_stays_text(
    options: Callable[..., dict[str, Any]], value: str
) -> None:
    assert options("a: ${A}\nb: ['${A}']", A=value, B="no") == {"a": value, "b": [value]}


def test_the_seed_may_be_a_variable(read: Callable[..., RecipeSpec]) -> None:
    assert read("seed: ${SEED}\nsteps: [{stage: sft}]", SEED="12").seed == 12


def test_bad_variables_are_reported_at_once(error_text: Callable[..., str]) -> None:
    text = """\
        name: ${RUN}
        steps:
          - stage: sft
            data: ${DATAA}/a.jsonl
            out: ${DATA
            b: ${1x}
            c: ${A:-${B}}
            token: ${HF_TOKEN}
    """
    assert error_text(text, DATA="/d", HF_TOKEN="hf_secret").splitlines() == [
        "r.yaml:1: the environment variable 'RUN' is not set",
        "  hint: set it, or write ${RUN:-default}",
        "r.yaml:4: the environment variable 'DATAA' is not set",
        "  hint: did you mean 'DATA'?",
        "r.yaml:5: '${DATA' is not a variable",
        "  hint: write ${NAME} or ${NAME:-default}; for the characters themselves, $${",
        "r.yaml:6: '${1x}' is not a variable",
        "  hint: write ${NAME} or ${NAME:-default}; for the characters themselves, $${",
        "r.yaml:7: '${A:-${B}' is not a variable",
        "  hint: write ${NAME} or ${NAME:-default}; for the characters themselves, $${",
        "r.yaml:8: the variable 'HF_TOKEN' looks like a secret, and the run folder contains the recipe",
        "  hint: remove it: the libraries read tokens from the environment themselves",
    ]


def test_names_that_only_resemble_secrets_are_read(options: Callable[..., dict[str, Any]]) -> None:
    assert options("a: ${MAX_TOKENS}${TOKENIZER}", MAX_TOKENS="5", TOKENIZER="t") == {"a": "5t"}
