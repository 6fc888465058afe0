from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

import aligner
from aligner import chain
from aligner.host import Host
from aligner.offers import Completion, RewardFunction
from aligner.recipe import read_recipe
from aligner.stage import Look, Plan, Run, Stage, StageConfig
from aligner.state import Live, ModelState

RECIPE = "steps: [{stage: score, by: longer}]\n"


class Longer(RewardFunction):
    name = "longer"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [float(len(one.text)) for one in completions]


class Options(StageConfig):
    by: str


class Score(Stage[Options]):
    """Asks for the function it is told to ask for."""

    name = "score"
    requires = frozenset()
    provides = frozenset()

    def plan(self, look: Look) -> Plan:
        if self.config.by in look.offers.reward_functions:
            look.offers.reward_functions[self.config.by]
        return Plan(summary="scores")

    def run(self, state: ModelState, run: Run) -> ModelState:
        run.scratch["ran"] = True
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
    scratch: dict[str, Any] = {}
    checked = chain.check(chain.link(read_recipe(path), host), host, scratch=scratch)
    chain.run(checked, host, runs=folder / "runs", live=Live())
    return "ran" in scratch


@pytest.mark.parametrize(("by", "again"), [("longer", True), ("other", False)])
def test_a_new_version_of_a_reward_function_reruns_only_the_steps_that_ask_for_it(
    tmp_path: Path, by: str, again: bool
) -> None:
    recipe = RECIPE.replace("longer", by)
    assert ran(tmp_path, recipe, "1.0")
    assert not ran(tmp_path, recipe, "1.0")
    assert ran(tmp_path, recipe, "2.0") is again
