"""Stages that write small files in place of models: what a chain does is seen without any."""

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
from aligner.stage import Look, Outlook, Plan, Run, Stage, StageConfig
from aligner.state import Artifact, Live, ModelState


class Options(StageConfig):
    text: str = "x"
    """What is written."""
    data: str | None = None
    """A file that must exist."""
    cheer: str = Field("", json_schema_extra={"determines": False})
    """Changes nothing."""
    fail: str = ""
    """What goes wrong: `plan`, `run`, `stop`, `slot`, `empty`, `noise`."""


def write(run: Run, name: str, text: str) -> Artifact:
    folder = run.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "text").write_text(text)
    return Artifact(path=str(folder), hash=hashlib.sha256(text.encode()).hexdigest())


class Base(Stage[Options]):
    """Common to the stages of these tests."""

    name = "base"
    requires = frozenset()
    provides = frozenset()

    def plan(self, look: Look) -> Plan:
        if self.config.data and not (look.recipe_folder / self.config.data).exists():
            raise DataError(f"there is no file {self.config.data}", where=look.at("data"))
        if self.config.fail == "plan":
            raise ModelError("it does not fit", where=look.where)
        left = {slot: Outlook(made_by=look.step, facts={"text": "?"}) for slot in self.provides}
        return Plan(summary="writes", slots=left, figures=frozenset({"length"}))

    def run(self, state: ModelState, run: Run) -> ModelState:
        ran = run.scratch.setdefault("ran", [])
        ran.append(run.step)
        if self.config.fail == "run":
            raise RuntimeError("out of paper")
        if self.config.fail == "stop":
            raise KeyboardInterrupt
        if self.config.fail == "noise":
            random.random()
            os.environ["ALIGNER_TEST_NOISE"] = "1"
        return self.make(state, run)

    def make(self, state: ModelState, run: Run) -> ModelState:
        raise NotImplementedError


class Begin(Base):
    """Fills policy and tokenizer."""

    name = "begin"
    provides = frozenset({"policy", "tokenizer"})

    def make(self, state: ModelState, run: Run) -> ModelState:
        run.record(length=len(self.config.text))
        words = write(run, "tokenizer", "abc")
        return state.put(run.step, policy=write(run, "policy", self.config.text), tokenizer=words)


class Grow(Base):
    """Writes more to the policy."""

    name = "grow"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def make(self, state: ModelState, run: Run) -> ModelState:
        if self.config.fail == "empty":
            return ModelState()
        old = (Path(state.get("policy").path) / "text").read_text()
        run.progress(1, 2, loss=0.5)
        run.progress(2, 2, loss=0.25)
        run.record(length=len(old + self.config.text))
        grown = state.put(run.step, policy=write(run, "policy", old + self.config.text))
        return (
            grown.put(run.step, value=grown.get("policy")) if self.config.fail == "slot" else grown
        )


class Judge(Base):
    """Fills the reward slot from the policy."""

    name = "judge"
    requires = frozenset({"policy"})
    provides = frozenset({"reward"})

    def make(self, state: ModelState, run: Run) -> ModelState:
        run.record(length=1.0)
        return state.put(run.step, reward=write(run, "reward", "judge"))


class Last(Base):
    """Needs a reward model."""

    name = "last"
    requires = frozenset({"policy", "reward"})
    provides = frozenset()

    def make(self, state: ModelState, run: Run) -> ModelState:
        run.record(length=2.0)
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
        scratch: dict[str, Any] = {}
        checked = chain.check(chain.link(recipe, host), host, scratch=scratch)
        events: list[Any] = []
        seen = SimpleNamespace(ran=[], events=events, outcome=None, error=None)
        try:
            seen.outcome = chain.run(
                checked, host, runs=tmp_path / "runs", tell=events.append, live=Live(), **options
            )
        except BaseException as error:
            seen.error = error
        seen.ran = scratch.get("ran", [])
        return seen

    return run
