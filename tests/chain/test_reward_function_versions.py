from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

import aligner
from aligner import chain
from aligner.host import Host
from aligner.recipe import read_recipe
from aligner.registry import Completion, RewardFunction
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelCache, ModelState

RECIPE = "steps: [{stage: score, by: longer}]\n"


class Longer(RewardFunction):
    name = "longer"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [float(len(c.text)) for c in completions]


class Options(StageOptions):
    by: str


class Score(Stage[Options]):
    """Look up the reward function named in the options."""

    name = "score"
    requires = frozenset()
    provides = frozenset()

    def plan(self, context: PlanContext) -> Plan:
        if self.options.by in context.registry.reward_functions:
            context.registry.reward_functions[self.options.by]
        return Plan(summary="scores")

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        context.memo["ran"] = True
        return state


class Functions:
    @aligner.hookimpl
    def aligner_reward_functions(self) -> Iterable[type[RewardFunction]]:
        return (Longer,)


class Stages:
    @aligner.hookimpl
    def aligner_stages(self) -> Iterable[type[Stage[Any]]]:
        return (Score,)


def ran(folder: Path, recipe: str, version: str) -> bool:
    host = Host()
    host.add(Stages(), name="stages")
    host.add(Functions(), name="functions", version=version)
    path = folder / "mine.yaml"
    path.write_text(recipe)
    memo: dict[str, Any] = {}
    checked = chain.check(chain.link(read_recipe(path), host), host, memo=memo)
    chain.run(checked, host, runs=folder / "runs", model_cache=ModelCache())
    return "ran" in memo


@pytest.mark.parametrize(("by", "again"), [("longer", True), ("other", False)])
def test_a_new_version_of_a_reward_function_reruns_only_the_steps_that_ask_for_it(
    tmp_path: Path, by: str, again: bool
) -> None:
    recipe = RECIPE.replace("longer", by)
    assert ran(tmp_path, recipe, "1.0")
    assert not ran(tmp_path, recipe, "1.0")
    assert ran(tmp_path, recipe, "2.0") is again
