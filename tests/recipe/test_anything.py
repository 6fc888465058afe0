"""Any input gives a recipe or an error, quickly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aligner.errors import AlignerError
from aligner.recipe import RecipeSpec, read_recipe, recipe_from

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)  # fmt: skip
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
OPTIONS = st.dictionaries(
    KEYS.filter(lambda key: key not in ("stage", "as", "gate", "after", "before")),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(options=OPTIONS)
def test_any_options_written_out_read_back_the_same(
    assert_reads_back: Callable[[RecipeSpec], None], folder: Path, options: dict[str, Any]
) -> None:
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
def test_any_text_is_a_recipe_or_an_error(
    assert_reads_back: Callable[[RecipeSpec], None], text: str
) -> None:
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
def test_any_bytes_are_a_recipe_or_an_error(raw: bytes) -> None:
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
def test_any_override_is_applied_or_an_error(
    read: Callable[..., RecipeSpec],
    assert_reads_back: Callable[[RecipeSpec], None],
    sft_dpo: str,
    text: str,
) -> None:
    try:
        recipe = read(sft_dpo, text)
    except AlignerError:
        return
    assert_reads_back(recipe)
