"""The chain adds the location of its step to errors that have none: in plan, preview and run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

import aligner
from aligner import chain
from aligner.errors import AlignerError, DataError, ErrorGroup, ModelError
from aligner.host import Host, host_of
from aligner.preview import PreviewRequest, PreviewSection
from aligner.recipe import read_recipe
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState


class FailingOptions(StageOptions):
    method: str
    """The method that raises: `plan`, `preview` or `run`."""


class Failing(Stage[FailingOptions]):
    """Raise two errors without a location and one with its own."""

    name = "failing"
    requires = frozenset()
    provides = frozenset()

    def _reach(self, method: str) -> None:
        if method == self.options.method:
            inner = ErrorGroup([ModelError("no head"), DataError("no rows", where="a.jsonl:3")])
            raise ErrorGroup([inner, ModelError("no tokenizer", hint="name one")])

    def plan(self, context: PlanContext) -> Plan:
        self._reach("plan")
        return Plan(summary="fails")

    def preview(self, context: PlanContext, request: PreviewRequest) -> Sequence[PreviewSection]:
        self._reach("preview")
        return ()

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        self._reach("run")
        return state


class Plugin:
    @aligner.hookimpl
    def aligner_stages(self) -> Iterable[type[Stage[Any]]]:
        return (Failing,)


def linked(folder: Path, method: str) -> tuple[chain.Chain, Host]:
    path = folder / "r.yaml"
    path.write_text(f"steps:\n  - stage: failing\n    method: {method}\n")
    host = host_of([Plugin()])
    return chain.link(read_recipe(path), host), host


def text(error: BaseException, folder: Path) -> str:
    return str(error).replace(f"{folder}/", "")


EXPECTED = (
    "r.yaml:2: no head\n"
    "a.jsonl:3: no rows\n"
    "r.yaml:2: no tokenizer\n"
    "  hint: name one"
)  # fmt: skip


def test_errors_of_planning_get_the_location_of_the_step(tmp_path: Path) -> None:
    with pytest.raises(AlignerError) as caught:
        chain.check(*linked(tmp_path, "plan"))
    assert text(caught.value, tmp_path) == EXPECTED


def test_errors_of_a_preview_get_the_location_of_the_step(tmp_path: Path) -> None:
    shown = chain.preview(*linked(tmp_path, "preview"))
    assert text(ErrorGroup(shown.errors), tmp_path) == EXPECTED


def test_errors_of_running_get_the_location_of_the_step(tmp_path: Path) -> None:
    made, host = linked(tmp_path, "run")
    with pytest.raises(AlignerError) as caught:
        chain.run(chain.check(made, host), host, runs=tmp_path / "runs")
    assert text(caught.value, tmp_path) == EXPECTED
