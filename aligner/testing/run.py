"""Run a single stage, with tiny models in the slots that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aligner.api import Recipe, Result
from aligner.chain import Event
from aligner.data.encoding.tokenizers import save_tokenizer
from aligner.models.model_info import model_info, reward_info
from aligner.models.save import save_model
from aligner.stage import Plan, PlanContext, SlotForecast, Stage, StageOptions, StepContext
from aligner.state import Artifact, ModelCache, ModelState, Slot
from aligner.testing.tiny import (
    Rows,
    tiny_model,
    tiny_reward_model,
    tiny_tokenizer,
    write_files,
    write_tiny,
)

MODEL = "tiny-model"
"""Folder of the initial model, in the folder given to `run_stage`."""


class NoOptions(StageOptions):
    """Options of a stage without options."""


class Nothing(Stage[NoOptions]):
    """A stage that does nothing."""

    name = "nothing"
    requires = frozenset()
    provides = frozenset()

    def __init__(self, options: NoOptions | None = None) -> None:
        super().__init__(options or NoOptions())

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary="nothing")

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        return state


class FilledOptions(StageOptions):
    """Options of the stage `filled`."""

    slots: tuple[Slot, ...]
    """Slots to fill."""


class Filled(Stage[FilledOptions]):
    """Fill slots with tiny models, for a stage that requires more than the initial model."""

    name = "filled"
    requires = frozenset({"policy", "tokenizer"})

    @property
    def provides(self) -> frozenset[Slot]:
        return frozenset(self.options.slots)

    def plan(self, context: PlanContext) -> Plan:
        start: Artifact = context.slots["policy"].facts["artifact"]
        forecasts: dict[Slot, SlotForecast] = {}
        for slot in self.options.slots:
            facts = model_info(start)
            if slot == "reward":
                facts = reward_info(facts)
            forecasts[slot] = SlotForecast(made_by=context.step, facts={"model": facts})
        return Plan(summary=f"tiny models in {', '.join(self.options.slots)}", slots=forecasts)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        made: dict[str, Artifact] = {}
        for slot in self.options.slots:
            if slot == "reward":
                model = tiny_reward_model(Path(state.get("policy").path), seed=context.seed)
                save_tokenizer(tiny_tokenizer(), context.folder / slot)
            else:
                model = tiny_model(seed=context.seed)
            made[slot] = save_model(
                model, context.folder / slot, model_cache=ModelCache(), made_by=context.step
            )
        return state.put(context.step, **made)


def run_stage(
    stage: Stage[Any],
    folder: Path,
    *,
    files: Mapping[str, Rows | str] | None = None,
    fill: Iterable[Slot] = (),
    before: Sequence[Stage[Any]] = (),
    runs: str = "runs",
    seed: int = 7,
    plugins: Iterable[object] = (),
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Run `stage` after the steps that fill the slots it requires.

    Args:
        stage: The stage; `folder` is the base of relative paths in its options.
        folder: Folder for the data, the tiny model and the runs.
        files: Data files to write to `folder` first: rows or text by name.
        fill: Slots to fill although the stage does not require them.
        before: Stages to run first, for required slots that plugins declare.
        runs: Folder of the runs, in `folder`; finished steps are shared only within one.
        seed: Seed of the recipe.
        plugins: Plugins besides the installed ones.
        on_event: Called with each event; an exception ends the run.
    """
    recipe = recipe_for(
        stage, folder, files=files, fill=fill, before=before, seed=seed, plugins=plugins
    )
    return recipe.run(runs=folder / runs, show=False, on_event=on_event)


def recipe_for(
    stage: Stage[Any],
    folder: Path,
    *,
    files: Mapping[str, Rows | str] | None = None,
    fill: Iterable[Slot] = (),
    before: Sequence[Stage[Any]] = (),
    seed: int = 7,
    plugins: Iterable[object] = (),
) -> Recipe:
    """Return the recipe that `run_stage` runs."""
    write_files(folder, files or {})
    steps = [*before, stage]
    provided = frozenset().union(*(first.provides for first in before))
    needed = set(fill).union(*(step.requires for step in steps)) - provided
    if others := sorted(needed - {"policy", "tokenizer"}):
        steps.insert(0, Filled(FilledOptions(slots=tuple(others))))
    model = None
    if needed:
        model = folder / MODEL
        if not model.is_dir():
            write_tiny(model)
    return Recipe(steps, model=model, name="one-stage", seed=seed, folder=folder, plugins=plugins)
