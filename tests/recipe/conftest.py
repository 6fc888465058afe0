"""A working directory with the recipe `r.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from aligner.errors import AlignerError
from aligner.recipe import RecipeSpec, read_recipe


@pytest.fixture
def sft_dpo() -> str:
    return dedent(
        """\
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
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, so that errors_of show paths as given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def read() -> Callable[..., RecipeSpec]:
    """Write a text as `r.yaml` and read it, with overrides and an environment."""

    def write_and_read(text: str, *overrides: str, **environment: str) -> RecipeSpec:
        Path("r.yaml").write_text(dedent(text), encoding="utf-8")
        return read_recipe("r.yaml", overrides=overrides, environment=environment)

    return write_and_read


@pytest.fixture
def error_text(read: Callable[..., RecipeSpec]) -> Callable[..., str]:
    """All that is message of a text that must not read."""

    def message(text: str, *overrides: str, **environment: str) -> str:
        with pytest.raises(AlignerError) as caught:
            read(text, *overrides, **environment)
        return str(caught.value)

    return message


@pytest.fixture
def options(read: Callable[..., RecipeSpec]) -> Callable[..., dict[str, Any]]:
    """Options of the only step, whose lines are a text."""

    def read_options(text: str, **environment: str) -> dict[str, Any]:
        lines = "".join(f"    {line}\n" for line in dedent(text).splitlines())
        return read(f"steps:\n  - stage: sft\n{lines}", **environment).steps[0].options

    return read_options


@pytest.fixture
def family() -> Callable[..., None]:
    """Write several recipes: `shared__base=` is `shared/base.yaml`."""

    def write(**texts: str) -> None:
        for name, text in texts.items():
            path = Path(name.replace("__", "/") + ".yaml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")

    return write


@pytest.fixture
def essence() -> Callable[[RecipeSpec], tuple[Any, ...]]:
    """A recipe without the places where it is written."""

    def without_places(recipe: RecipeSpec) -> tuple[Any, ...]:
        steps = [(step.stage, step.name, step.options, step.gate) for step in recipe.steps]
        return recipe.name, recipe.description, recipe.model, recipe.seed, steps

    return without_places


@pytest.fixture
def assert_reads_back(
    essence: Callable[[RecipeSpec], tuple[Any, ...]],
) -> Callable[[RecipeSpec], None]:
    """Hold a recipe against what its own text reads as."""

    def check(recipe: RecipeSpec) -> None:
        Path("again.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        assert essence(read_recipe("again.yaml", environment={})) == essence(recipe)

    return check
