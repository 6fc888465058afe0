"""A tiny model, prompts, a reward function to be worked out by hand, and a way to run a recipe on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import aligner
from aligner.api import Recipe
from aligner.registry import Completion, RewardFunction
from aligner.testing import prompts, write_tiny

Run = Callable[..., Any]


class Variety(RewardFunction):
    """Number of different letters of an answer."""

    name: ClassVar[str] = "variety"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [float(variety(item.text)) for item in completions]


class Same(RewardFunction):
    """Likes all answers alike."""

    name: ClassVar[str] = "same"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [1.0 for _ in completions]


class Broken(RewardFunction):
    """Gives no number."""

    name: ClassVar[str] = "broken"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [float("nan") for _ in completions]


def variety(text: str) -> int:
    return len(set(text))


class Functions:
    @aligner.hookimpl
    def aligner_reward_functions(self) -> Iterable[type[RewardFunction]]:
        yield from (Variety, Same, Broken)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


@pytest.fixture
def recipe(tmp_path: Path, model: Path) -> Callable[..., Recipe]:
    """Write a recipe with these steps, and read it."""
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts(6)))

    def make(steps: str, *, rest: str = "") -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(f"model: {model}\nseed: 3\n{rest}steps:\n{steps}")
        return Recipe.load(path, plugins=[Functions()])

    return make


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]
