"""Stages that write small files in place of models: what a chain does is result without any."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field

import aligner
from aligner import chain
from aligner.errors import DataError, ModelError
from aligner.host import Host, host_of
from aligner.recipe import read_recipe
from aligner.stage import Plan, PlanContext, SlotForecast, Stage, StageOptions, StepContext
from aligner.state import Artifact, ModelCache, ModelState


class Options(StageOptions):
    text: str = "x"
    """What is written."""
    data: str | None = None
    """A file that must exist."""
    cheer: str = Field("", json_schema_extra={"determines": False})
    """Changes nothing."""
    fail: str = ""
    """What goes wrong: `plan`, `run`, `stop`, `slot`, `empty`, `noise`."""


def write(context: StepContext, name: str, text: str) -> Artifact:
    folder = context.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "text").write_text(text)
    return Artifact(path=str(folder), hash=hashlib.sha256(text.encode()).hexdigest())


class Base(Stage[Options]):
    """Common to the stages of these tests."""

    name = "base"
    requires = frozenset()
    provides = frozenset()

    def plan(self, context: PlanContext) -> Plan:
        if self.options.data and not (context.recipe_folder / self.options.data).exists():
            raise DataError(f"there is no file {self.options.data}", where=context.at("data"))
        if self.options.fail == "plan":
            raise ModelError("it does not fit", where=context.where)
        left = {
            slot: SlotForecast(made_by=context.step, facts={"text": "?"}) for slot in self.provides
        }
        return Plan(summary="writes", slots=left, metrics=frozenset({"length"}))

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        ran = context.memo.setdefault("ran", [])
        ran.append(context.step)
        if self.options.fail == "run":
            raise RuntimeError("out of disk space")
        if self.options.fail == "stop":
            raise KeyboardInterrupt
        if self.options.fail == "noise":
            random.random()
            os.environ["ALIGNER_TEST_NOISE"] = "1"
        return self.make(state, context)

    def make(self, state: ModelState, context: StepContext) -> ModelState:
        raise NotImplementedError


class Begin(Base):
    """Fills policy and tokenizer."""

    name = "begin"
    provides = frozenset({"policy", "tokenizer"})

    def make(self, state: ModelState, context: StepContext) -> ModelState:
        context.record(length=len(self.options.text))
        words = write(context, "tokenizer", "abc")
        return state.put(
            context.step, policy=write(context, "policy", self.options.text), tokenizer=words
        )


class Grow(Base):
    """Writes more to the policy."""

    name = "grow"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def make(self, state: ModelState, context: StepContext) -> ModelState:
        if self.options.fail == "empty":
            return ModelState()
        old = (Path(state.get("policy").path) / "text").read_text()
        context.progress(1, 2, loss=0.5)
        context.progress(2, 2, loss=0.25)
        context.record(length=len(old + self.options.text))
        grown = state.put(context.step, policy=write(context, "policy", old + self.options.text))
        return (
            grown.put(context.step, value=grown.get("policy"))
            if self.options.fail == "slot"
            else grown
        )


class Judge(Base):
    """Fills the reward slot from the policy."""

    name = "judge"
    requires = frozenset({"policy"})
    provides = frozenset({"reward"})

    def make(self, state: ModelState, context: StepContext) -> ModelState:
        context.record(length=1.0)
        return state.put(context.step, reward=write(context, "reward", "judge"))


class Last(Base):
    """Needs a reward model."""

    name = "last"
    requires = frozenset({"policy", "reward"})
    provides = frozenset()

    def make(self, state: ModelState, context: StepContext) -> ModelState:
        context.record(length=2.0)
        return state


class Plugin:
    @aligner.hookimpl
    def aligner_stages(self) -> Iterable[type[Stage[Any]]]:
        return Begin, Grow, Judge, Last


@pytest.fixture
def host() -> Host:
    return host_of([Plugin()])


@pytest.fixture
def go(tmp_path: Path, host: Host) -> Callable[..., SimpleNamespace]:
    """Write a recipe, check it and run it; gives the outcome, which steps ran, and the events."""

    def run(text: str, *, name: str = "mine", overrides: Iterable[str] = (), **options: Any) -> Any:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        recipe = read_recipe(path, overrides=list(overrides))
        memo: dict[str, Any] = {}
        checked = chain.check(chain.link(recipe, host), host, memo=memo)
        events: list[Any] = []
        result = SimpleNamespace(ran=[], events=events, outcome=None, error=None)
        try:
            result.outcome = chain.run(
                checked,
                host,
                runs=tmp_path / "runs",
                on_event=events.append,
                model_cache=ModelCache(),
                **options,
            )
        except BaseException as error:
            result.error = error
        result.ran = memo.get("ran", [])
        return result

    return run
