"""What every stage must hold to: subclass `StageContract` in a plugin's tests and name the stage."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import PreTrainedModel

from aligner.api import Result
from aligner.chain import Event, StepProgress
from aligner.options.fields import nested_models
from aligner.run.durable import hash_tree
from aligner.stage import Stage
from aligner.state import SLOTS, Slot
from aligner.testing.process import Process
from aligner.testing.run import recipe_for, run_stage
from aligner.testing.tiny import Rows

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "evaluate")
"""What takes seconds to import, and so waits until a step is planned or runs."""


class Killed(BaseException):
    """Stands in for the end of the process in the middle of a step."""


@dataclass(frozen=True)
class Seen:
    """One run of the stage, and what it did besides."""

    result: Result
    events: list[Event]
    folder: Path
    disturbed: list[str]
    """What of the process was not as before."""
    written: list[str]
    """Files that it left outside its own folder, or changed there."""

    def reports(self, step: str) -> list[int]:
        """How far the step was at each of its reports."""
        said = (_done_at(event, step) for event in self.events)
        return [done for done in said if done is not None]


class StageContract:
    """Tests that hold for every stage.

        class TestMine(StageContract):
            stage = Mine
            options = {"data": "pairs.jsonl", "max_steps": 4, "save_steps": 2}
            files = {"pairs.jsonl": preferences()}

    Choose options so small that a run takes a second, and `save_steps` so that there is a
    checkpoint before `interrupt_at`.
    """

    stage: ClassVar[type[Stage[Any]]]
    options: ClassVar[Mapping[str, Any]] = {}
    """The fewest and smallest options the stage does its work with."""
    files: ClassVar[Mapping[str, Rows | str]] = {}
    """Data that the options name, written beside the recipe: rows or text by file name."""
    fill: ClassVar[Iterable[Slot]] = ()
    """Slots to fill that the stage uses where they are there; what it requires is filled anyway."""
    plugins: ClassVar[Iterable[object]] = ()
    """Plugins besides the installed ones: your own package, where it is not installed."""
    interrupt_at: ClassVar[int | None] = 3
    """The step is killed when it reports that this much is done, and must go on from a checkpoint
    before it. None for a stage that is too quick to keep any."""
    unrepeatable: ClassVar[frozenset[str]] = frozenset()
    """Metrics that differ from run to run, such as speeds."""

    @pytest.fixture
    def made(self) -> Stage[Any]:
        return self._made()

    @pytest.fixture(scope="class")
    @classmethod
    def seen(cls, tmp_path_factory: pytest.TempPathFactory) -> Seen:
        """One whole run, which several tests look at."""
        return cls._run(cls._made(), tmp_path_factory.mktemp(cls.stage.name))

    @classmethod
    def _made(cls) -> Stage[Any]:
        return cls.stage(cls.stage.Options(**cls.options))

    @classmethod
    def _run(
        cls,
        made: Stage[Any],
        folder: Path,
        *,
        hear: Callable[[Event], None] = lambda event: None,
    ) -> Seen:
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        recipe_for(made, folder, files=cls.files, fill=cls.fill, plugins=cls.plugins)
        events: list[Event] = []

        def on_event(event: Event) -> None:
            events.append(event)
            hear(event)

        before, files, here = Process.now(), _files(folder), Path.cwd()
        os.chdir(elsewhere)
        try:
            result = run_stage(
                made,
                folder,
                files=cls.files,
                fill=cls.fill,
                plugins=cls.plugins,
                on_event=on_event,
            )
            disturbed = before.difference(Process.now(), but={"current folder"})
            if Path.cwd() != elsewhere.resolve():
                disturbed.append("current folder")
        finally:
            os.chdir(here)
        written = [name for name, digest in _files(folder).items() if files.get(name) != digest]
        return Seen(result, events, folder, disturbed, written)

    def test_every_option_says_what_it_is_for(self) -> None:
        models = (self.stage.Options, *nested_models(self.stage.Options))
        silent = [
            f"{model.__name__}.{name}"
            for model in models
            for name, field in model.model_fields.items()
            if not field.description
        ]
        assert not silent, f"no docstring under: {', '.join(silent)}"

    def test_the_stage_is_written_up(self) -> None:
        own = self.stage.__dict__.get("__doc__")
        assert own, f"the first line of {self.stage.__name__}'s docstring is its line in listings"
        assert own.strip().splitlines()[0].endswith("."), "the first line should be a sentence"

    def test_options_read_back_as_they_are_written(self, made: Stage[Any]) -> None:
        written = made.options.model_dump(mode="json", exclude_unset=True)
        assert self.stage.Options(**json.loads(json.dumps(written))) == made.options

    def test_declaring_loads_nothing_heavy(self) -> None:
        home, name = self.stage.__module__, self.stage.__qualname__
        code = (
            f"import json, sys, {home}\n"
            f"stage = sys.modules[{home!r}].{name}\n"
            f"made = stage(stage.Options(**json.loads({json.dumps(dict(self.options))!r})))\n"
            "made.requires, made.provides, made.uses, made.earlier_steps\n"
            f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
        )
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        seen = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | path
        )
        assert not seen.returncode, seen.stderr
        assert not seen.stdout.strip(), f"{home} loads {seen.stdout.strip()}"

    def test_slots_are_slots(self, made: Stage[Any]) -> None:
        for part in ("requires", "provides", "uses"):
            unknown = getattr(made, part) - SLOTS
            assert not unknown, f"`{part}` names no slot: {sorted(unknown)}"

    def test_planning_loads_no_weights_and_says_the_same_twice(
        self, made: Stage[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = recipe_for(made, tmp_path, files=self.files, fill=self.fill, plugins=self.plugins)

        def loaded(*_: Any, **__: Any) -> None:
            raise AssertionError(f"`plan` of {self.stage.name!r} loads weights")

        monkeypatch.setattr(PreTrainedModel, "from_pretrained", loaded)
        first, second = (
            recipe.check(runs=tmp_path / "runs").plans[self.stage.name] for _ in range(2)
        )
        assert first.summary, "a plan needs a summary"
        assert "\n" not in first.summary, "a summary is one line"
        assert set(first.slots) <= made.provides | {"tokenizer"}, (
            "it plans slots it does not provide"
        )
        for part in ("summary", "rows", "tokens", "optimizer_steps", "metrics", "data"):
            assert getattr(first, part) == getattr(second, part), f"`{part}` differs between plans"

    def test_it_fills_what_it_declares_and_touches_nothing_else(
        self, made: Stage[Any], seen: Seen
    ) -> None:
        steps = list(seen.result.steps.values())
        own = steps[-1]
        for slot in made.provides:
            artifact = own.state.get(slot)
            inside = [artifact.path, *artifact.adapters][-1]
            assert artifact.made_by == own.name
            assert Path(inside).is_relative_to(own.folder.resolve()), (
                f"{slot!r} lies outside the step's folder"
            )
        for slot in sorted(own.state.filled() - made.provides):
            plugin_version = own.state.get(slot).made_by
            assert plugin_version != own.name, f"it changed {slot!r}, which it does not provide"
        assert not seen.written, f"it wrote outside its folder: {', '.join(seen.written)}"

    def test_it_records_the_figures_it_declares(self, made: Stage[Any], seen: Seen) -> None:
        recipe = recipe_for(
            made, seen.folder, files=self.files, fill=self.fill, plugins=self.plugins
        )
        plan = recipe.check(runs=seen.folder / "runs").plans[self.stage.name]
        metrics = seen.result[self.stage.name].metrics
        assert set(metrics) == set(plan.metrics), "`Plan.metrics` and what was recorded differ"
        odd = [name for name, value in metrics.items() if not math.isfinite(value)]
        assert not odd, f"no numbers: {', '.join(odd)}"

    def test_it_leaves_the_process_as_it_found_it(self, seen: Seen) -> None:
        assert not seen.disturbed, f"it changed: {', '.join(seen.disturbed)}"

    def test_the_same_seed_gives_the_same_numbers(
        self, made: Stage[Any], seen: Seen, tmp_path: Path
    ) -> None:
        self._assert_same(made, seen, self._run(made, tmp_path))

    def test_what_is_finished_is_not_run_again(self, made: Stage[Any], seen: Seen) -> None:
        again = run_stage(made, seen.folder, files=self.files, fill=self.fill, plugins=self.plugins)
        assert again[self.stage.name].reused, "its plan does not say the same in the next run"

    def test_killed_in_the_middle_it_goes_on_to_the_same_end(
        self, made: Stage[Any], seen: Seen, tmp_path: Path
    ) -> None:
        name = self.stage.name
        if self.interrupt_at is None:
            pytest.skip(f"{name} is too quick to be interrupted")
        whole = seen.reports(name)
        assert whole[-1:] > [self.interrupt_at], f"it never reports more than {self.interrupt_at}"
        first = True

        def kill(event: Event) -> None:
            if first and _done_at(event, name) == self.interrupt_at:
                raise Killed

        with pytest.raises(Killed):
            self._run(made, tmp_path, hear=kill)
        first = False
        after = self._run(made, tmp_path)
        assert after.reports(name)[0] > whole[0], "it began again instead of going on"
        self._assert_same(made, seen, after)

    def _assert_same(self, made: Stage[Any], one: Seen, other: Seen) -> None:
        name = self.stage.name
        first, second = one.result[name], other.result[name]
        for slot in sorted(made.provides):
            assert first.state.get(slot).hash == second.state.get(slot).hash, (
                f"the content of {slot!r} differs"
            )
        metrics = [
            {key: value for key, value in step.metrics.items() if key not in self.unrepeatable}
            for step in (first, second)
        ]
        assert metrics[0] == metrics[1]


def _done_at(event: Event, step: str) -> int | None:
    """How far `step` says it is, if `event` is such a report."""
    if isinstance(event, StepProgress) and event.progress.step == step:
        return event.progress.done
    return None


def _files(folder: Path) -> dict[str, str]:
    """Everything below `folder` that is not the runs."""
    return {n: d for n, d in hash_tree(folder).items() if not n.startswith("runs/")}
