"""Contract tests for stages: subclass `StageContract` in the tests of a plugin."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import PreTrainedModel

from aligner.api import Recipe, Result
from aligner.chain import Event, StepProgress
from aligner.host import Host, host_of
from aligner.options.fields import nested_models
from aligner.run.durable import hash_tree
from aligner.stage import Stage
from aligner.state import Slot
from aligner.testing.process import Process
from aligner.testing.run import recipe_for
from aligner.testing.tiny import Rows

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "evaluate")
"""Libraries that take seconds to import; a stage imports them only when it plans or runs."""


class SimulatedCrash(BaseException):
    """Raised in the middle of a step instead of killing the process."""


@dataclass(frozen=True)
class StageRun:
    """One run of the stage and its side effects."""

    result: Result
    events: list[Event]
    folder: Path
    disturbed: list[str]
    """Process state that differs after the run."""
    written: list[str]
    """Files created or changed outside the folder of the runs."""

    def reports(self, step: str) -> list[int]:
        """Return the `done` value of each progress report of the step."""
        reports = (_done_at(event, step) for event in self.events)
        return [done for done in reports if done is not None]


class StageContract:
    """Tests that every stage has to pass.

        class TestMine(StageContract):
            stage = Mine
            options = {"data": "pairs.jsonl", "max_steps": 4, "save_steps": 2}
            files = {"pairs.jsonl": preferences()}

    Choose options so small that a run takes a second, and `save_steps` so that there is a
    checkpoint before `interrupt_at`.
    """

    stage: ClassVar[type[Stage[Any]]]
    options: ClassVar[Mapping[str, Any]] = {}
    """The smallest options with which the stage does its work."""
    files: ClassVar[Mapping[str, Rows | str]] = {}
    """Data files that the options name, by file name: rows or text."""
    fill: ClassVar[Iterable[Slot]] = ()
    """Optional slots to fill with tiny models; required slots are filled anyway."""
    before: ClassVar[Sequence[Stage[Any]]] = ()
    """Stages to run first, for required slots that plugins declare."""
    plugins: ClassVar[Iterable[object]] = ()
    """Plugins besides the installed ones: your own package if it is not installed."""
    interrupt_at: ClassVar[int | None] = 3
    """The step is interrupted when it reports this much progress, and has to resume from an earlier
    checkpoint. None for a stage without checkpoints."""
    unrepeatable: ClassVar[frozenset[str]] = frozenset()
    """Metrics that differ from run to run, such as speeds."""

    @pytest.fixture
    def instance(self) -> Stage[Any]:
        return self._instance()

    @pytest.fixture(scope="class")
    @classmethod
    def finished_run(cls, tmp_path_factory: pytest.TempPathFactory) -> StageRun:
        """One complete run, shared by several tests."""
        return cls._run(cls._instance(), tmp_path_factory.mktemp(cls.stage.name))

    @classmethod
    def _instance(cls) -> Stage[Any]:
        return cls.stage(cls.stage.Options(**cls.options))

    @classmethod
    def _recipe(cls, instance: Stage[Any], folder: Path) -> Recipe:
        return recipe_for(
            instance, folder, files=cls.files, fill=cls.fill, before=cls.before, plugins=cls.plugins
        )

    @classmethod
    def _run(
        cls,
        instance: Stage[Any],
        folder: Path,
        *,
        listener: Callable[[Event], None] = lambda event: None,
    ) -> StageRun:
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        recipe = cls._recipe(instance, folder)
        events: list[Event] = []

        def on_event(event: Event) -> None:
            events.append(event)
            listener(event)

        before, files, cwd = Process.now(), _files(folder), Path.cwd()
        os.chdir(elsewhere)
        try:
            result = recipe.run(runs=folder / "runs", show=False, on_event=on_event)
            disturbed = before.difference(Process.now(), but={"current folder"})
            if Path.cwd() != elsewhere.resolve():
                disturbed.append("current folder")
        finally:
            os.chdir(cwd)
        written = [name for name, digest in _files(folder).items() if files.get(name) != digest]
        return StageRun(result, events, folder, disturbed, written)

    def test_every_option_is_documented(self) -> None:
        models = (self.stage.Options, *nested_models(self.stage.Options))
        undocumented = [
            f"{model.__name__}.{name}"
            for model in models
            for name, field in model.model_fields.items()
            if not field.description
        ]
        assert not undocumented, f"no docstring under: {', '.join(undocumented)}"

    def test_the_stage_is_documented(self) -> None:
        own = self.stage.__dict__.get("__doc__")
        assert own, f"{self.stage.__name__} has no docstring; `aligner stages` lists its first line"
        assert own.strip().splitlines()[0].endswith("."), "the first line should be a sentence"

    def test_options_survive_a_round_trip_through_json(self, instance: Stage[Any]) -> None:
        written = instance.options.model_dump(mode="json", exclude_unset=True)
        assert self.stage.Options(**json.loads(json.dumps(written))) == instance.options

    def test_the_declaration_imports_no_heavy_library(self) -> None:
        home, name = self.stage.__module__, self.stage.__qualname__
        code = (
            f"import json, sys, {home}\n"
            f"stage = sys.modules[{home!r}].{name}\n"
            f"instance = stage(stage.Options(**json.loads({json.dumps(dict(self.options))!r})))\n"
            "instance.requires, instance.provides, instance.uses, instance.earlier_steps\n"
            f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
        )
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | path
        )
        assert not process.returncode, process.stderr
        assert not process.stdout.strip(), f"{home} imports {process.stdout.strip()}"

    def test_slots_are_declared(self, instance: Stage[Any]) -> None:
        known = {*Host.discover().slots(), *host_of(self.plugins).slots(), *self.stage.declares}
        for part in ("requires", "provides", "uses"):
            unknown = getattr(instance, part) - known
            assert not unknown, f"`{part}` contains undeclared slots: {sorted(unknown)}"

    def test_planning_loads_no_weights_and_is_deterministic(
        self, instance: Stage[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = self._recipe(instance, tmp_path)

        def loaded(*_: Any, **__: Any) -> None:
            raise AssertionError(f"`plan` of {self.stage.name!r} loads weights")

        monkeypatch.setattr(PreTrainedModel, "from_pretrained", loaded)
        first, second = (
            recipe.check(runs=tmp_path / "runs").plans[self.stage.name] for _ in range(2)
        )
        assert first.summary, "the plan has no summary"
        assert "\n" not in first.summary, "the summary has more than one line"
        assert set(first.slots) <= instance.provides | {"tokenizer"}, (
            "`Plan.slots` contains slots that the stage does not provide"
        )
        for part in ("summary", "rows", "tokens", "optimizer_steps", "metrics", "data"):
            assert getattr(first, part) == getattr(second, part), (
                f"`{part}` differs between two plans"
            )

    def test_it_fills_the_slots_it_provides_and_changes_no_other(
        self, instance: Stage[Any], finished_run: StageRun
    ) -> None:
        steps = list(finished_run.result.steps.values())
        own = steps[-1]
        for slot in instance.provides:
            artifact = own.state.get(slot)
            inside = [artifact.path, *artifact.adapters][-1]
            assert artifact.made_by == own.name
            assert Path(inside).is_relative_to(own.folder.resolve()), (
                f"the artifact in {slot!r} is outside the folder of the step"
            )
        for slot in sorted(own.state.filled() - instance.provides):
            made_by = own.state.get(slot).made_by
            assert made_by != own.name, f"it changed {slot!r}, which it does not provide"
        assert not finished_run.written, (
            f"it wrote files outside its folder: {', '.join(finished_run.written)}"
        )

    def test_it_records_the_metrics_it_declares(
        self, instance: Stage[Any], finished_run: StageRun
    ) -> None:
        recipe = self._recipe(instance, finished_run.folder)
        plan = recipe.check(runs=finished_run.folder / "runs").plans[self.stage.name]
        metrics = finished_run.result[self.stage.name].metrics
        assert set(metrics) == set(plan.metrics), "`Plan.metrics` and the recorded metrics differ"
        not_finite = [name for name, value in metrics.items() if not math.isfinite(value)]
        assert not not_finite, f"NaN or infinite: {', '.join(not_finite)}"

    def test_it_restores_the_state_of_the_process(self, finished_run: StageRun) -> None:
        assert not finished_run.disturbed, (
            f"it changed the process: {', '.join(finished_run.disturbed)}"
        )

    def test_the_same_seed_gives_the_same_numbers(
        self, instance: Stage[Any], finished_run: StageRun, tmp_path: Path
    ) -> None:
        self._assert_same(instance, finished_run, self._run(instance, tmp_path))

    def test_a_finished_step_is_reused(self, instance: Stage[Any], finished_run: StageRun) -> None:
        again = self._recipe(instance, finished_run.folder).run(
            runs=finished_run.folder / "runs", show=False
        )
        assert again[self.stage.name].reused, "it runs again, because its plan or options changed"

    def test_after_an_interruption_it_resumes_with_the_same_result(
        self, instance: Stage[Any], finished_run: StageRun, tmp_path: Path
    ) -> None:
        name = self.stage.name
        if self.interrupt_at is None:
            pytest.skip(f"{name} has no checkpoints")
        whole = finished_run.reports(name)
        assert whole[-1:] > [self.interrupt_at], (
            f"it reports no progress beyond {self.interrupt_at}"
        )
        first = True

        def interrupt(event: Event) -> None:
            if first and _done_at(event, name) == self.interrupt_at:
                raise SimulatedCrash

        with pytest.raises(SimulatedCrash):
            self._run(instance, tmp_path, listener=interrupt)
        first = False
        after = self._run(instance, tmp_path)
        assert after.reports(name)[0] > whole[0], (
            "it started again instead of resuming from a checkpoint"
        )
        self._assert_same(instance, finished_run, after)

    def _assert_same(self, instance: Stage[Any], run: StageRun, other: StageRun) -> None:
        name = self.stage.name
        first, second = run.result[name], other.result[name]
        for slot in sorted(instance.provides):
            assert first.state.get(slot).hash == second.state.get(slot).hash, (
                f"the content of {slot!r} differs"
            )
        metrics = [
            {key: value for key, value in step.metrics.items() if key not in self.unrepeatable}
            for step in (first, second)
        ]
        assert metrics[0] == metrics[1]


def _done_at(event: Event, step: str) -> int | None:
    """Return the progress of `step`, if `event` reports it."""
    if isinstance(event, StepProgress) and event.progress.step == step:
        return event.progress.done
    return None


def _files(folder: Path) -> dict[str, str]:
    """Return the hash of each file in `folder`, except the runs."""
    return {n: d for n, d in hash_tree(folder).items() if not n.startswith("runs/")}
