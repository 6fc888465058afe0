"""Slots that a plugin declares work like the built-in ones: checked, hashed, saved, reused, shown."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import aligner
from aligner import chain
from aligner.errors import AlignerError
from aligner.export.lineage import read_lineage
from aligner.host import Host, host_of
from aligner.options.stage_page import describe_stage
from aligner.recipe import read_recipe
from aligner.run.selection import find_run, select_step
from aligner.run.store import Store
from aligner.stage import Plan, PlanContext, SlotForecast, Stage, StageOptions, StepContext
from aligner.state import Artifact, ModelState
from aligner.terminal.forecast import differences
from aligner.testing import StageContract

HEAD = f"{__name__.partition('.')[0]}.head"


class AddHeadOptions(StageOptions):
    text: str = "yes no"
    """Labels, separated by spaces."""
    slot: str = HEAD
    """Name of the slot to fill."""


class AddHead(Stage[AddHeadOptions]):
    """Write a classification head."""

    name = "add_head"
    declares = {HEAD: "The classification head."}  # noqa: RUF012
    requires = frozenset()

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({self.options.slot})

    def plan(self, context: PlanContext) -> Plan:
        facts = {"labels": len(self.options.text.split())}
        forecast = SlotForecast(made_by=context.step, facts=facts)
        return Plan(summary="write a head", slots={self.options.slot: forecast})

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        context.memo.setdefault("ran", []).append(context.step)
        folder = context.folder / "head"
        folder.mkdir()
        (folder / "labels").write_text(self.options.text)
        digest = hashlib.sha256(self.options.text.encode()).hexdigest()
        head = Artifact(path=str(folder), hash=digest)
        return state.put(context.step, **{self.options.slot: head})


class NoOptions(StageOptions):
    pass


class ReadHead(Stage[NoOptions]):
    """Count the labels of the classification head."""

    name = "read_head"
    requires = frozenset({HEAD})
    provides = frozenset()

    def plan(self, context: PlanContext) -> Plan:
        labels = context.slots[HEAD].facts["labels"]
        return Plan(summary=f"read {labels} labels", metrics=frozenset({"labels"}))

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        context.memo.setdefault("ran", []).append(context.step)
        labels = Path(state.get(HEAD).path, "labels").read_text().split()
        context.record(labels=len(labels))
        return state


class UseHead(ReadHead):
    """Count the labels of the classification head, if there is one."""

    name = "use_head"
    requires = frozenset()
    uses = frozenset({HEAD})

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary="with a head" if HEAD in context.slots else "without a head")

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        return super().run(state, context) if HEAD in state.filled() else state


class Plugin:
    @aligner.hookimpl
    def aligner_stages(self) -> Iterable[type[Stage[Any]]]:
        return AddHead, ReadHead, UseHead


BOTH = "steps:\n  - stage: add_head\n  - stage: read_head\n"


def checked(folder: Path, text: str, memo: dict[str, Any]) -> tuple[chain.CheckedChain, Host]:
    path = folder / "r.yaml"
    path.write_text(text)
    host = host_of([Plugin()])
    return chain.check(chain.link(read_recipe(path), host), host, memo=memo), host


def run(folder: Path, text: str = BOTH) -> tuple[chain.Outcome, list[str]]:
    memo: dict[str, Any] = {}
    return chain.run(*checked(folder, text, memo), runs=folder / "runs"), memo.get("ran", [])


def errors(folder: Path, text: str) -> str:
    with pytest.raises(AlignerError) as caught:
        checked(folder, text, {})
    return str(caught.value).replace(f"{folder}/", "")


def test_a_stage_plans_with_the_forecast_of_a_declared_slot(tmp_path: Path) -> None:
    plans = checked(tmp_path, BOTH, {})[0].plans
    assert [plan.summary for plan in plans] == ["write a head", "read 2 labels"]


def test_a_declared_slot_that_nothing_fills_is_an_error_where_it_is_required(
    tmp_path: Path,
) -> None:
    assert errors(tmp_path, "steps:\n  - stage: read_head\n") == (
        f"r.yaml:2: step 'read_head' requires '{HEAD}', and nothing before it fills that slot\n"
        f"  hint: put a step before it that fills '{HEAD}': add_head"
    )


def test_a_slot_that_no_plugin_declares_cannot_be_filled(tmp_path: Path) -> None:
    text = f"steps:\n  - stage: add_head\n    slot: {HEAD}s\n"
    assert errors(tmp_path, text) == (
        f"r.yaml:2: stage 'add_head' provides slot '{HEAD}s', which no installed plugin declares\n"
        f"  hint: did you mean '{HEAD}'?"
    )


@pytest.mark.parametrize(
    ("steps", "summary"),
    [(["add_head", "use_head"], "with a head"), (["use_head"], "without a head")],
)
def test_a_stage_may_use_a_declared_slot_only_where_it_is_filled(
    tmp_path: Path, steps: list[str], summary: str
) -> None:
    text = f"steps: [{', '.join(f'{{stage: {step}}}' for step in steps)}]\n"
    assert checked(tmp_path, text, {})[0].plans[-1].summary == summary
    run(tmp_path, text)


def test_a_declared_slot_is_saved_reused_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    outcome, ran = run(tmp_path)
    assert ran == ["add_head", "read_head"]
    assert outcome.steps[-1].metrics == {"labels": 2.0}
    assert run(tmp_path)[1] == []
    changed = BOTH.replace("add_head\n", "add_head\n    text: a b c\n")
    outcome, ran = run(tmp_path, changed)
    assert ran == ["add_head", "read_head"], "the content of the slot changed"
    assert outcome.steps[-1].metrics == {"labels": 3.0}
    then, now = ({"slots": {HEAD: digest}} for digest in ("a", "b"))
    assert list(differences(then, now)) == [f"incoming {HEAD}"]


def test_the_saved_state_has_the_declared_slot_and_survives_a_move(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path)
    state = Path(outcome.steps[0].folder).resolve() / "state.json"
    assert json.loads(state.read_text())[HEAD]["path"] == "head"
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    [first, *_] = find_run(tmp_path / "moved", "r").finished()
    moved = first[2].state().get(HEAD)
    assert (moved.made_by, moved.path) == ("add_head", str(first[2].folder / "head"))
    assert (Store(tmp_path / "moved").folder / first[2].fingerprint[:16]) == first[2].folder


def test_the_read_lineage_an_export_names_the_declared_slot(tmp_path: Path) -> None:
    run(tmp_path)
    lineage = read_lineage(select_step(find_run(tmp_path / "runs", "r"), None, slot=HEAD), HEAD)
    digest = hashlib.sha256(b"yes no").hexdigest()[:12]
    assert lineage.steps[0].outputs == (f"{HEAD} (`{digest}`)",)
    assert lineage.steps[-1].inputs == (f"{HEAD} of step `add_head` (`{digest}`)",)


def test_the_page_of_a_stage_describes_the_slots_it_declares() -> None:
    assert describe_stage(AddHead, {}).split("\n\n")[1] == (
        f"requires  nothing\n"
        f"provides  {HEAD}  (with default options)\n"
        f"declares  {HEAD}: The classification head."
    )


class TestReadHead(StageContract):
    stage = ReadHead
    before = (AddHead(AddHeadOptions()),)
    plugins = (Plugin(),)
    interrupt_at = None
    test_the_declaration_imports_no_heavy_library: Any = None  # this module imports aligner.testing
