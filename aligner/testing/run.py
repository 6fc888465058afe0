"""Run one stage as a chain of one, on tiny models in whatever slots it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aligner.api import Recipe, Result
from aligner.chain import Event
from aligner.data.encoding.tokenizers import save_tokenizer
from aligner.models.inspect import model_info, reward_info
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
"""Where `run_stage` puts the model that the chain begins with, below its folder."""


class NoOptions(StageOptions):
    """Of a stage that has none."""


class Nothing(Stage[NoOptions]):
    """A stage that needs nothing and does nothing."""

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
    slots: tuple[Slot, ...]
    """Which slots to fill."""


class Filled(Stage[FilledOptions]):
    """Fills slots with tiny models, for a stage that reads what a chain's start cannot hold."""

    name = "filled"
    requires = frozenset({"policy", "tokenizer"})

    @property
    def provides(self) -> frozenset[Slot]:
        return frozenset(self.options.slots)

    def plan(self, context: PlanContext) -> Plan:
        start: Artifact = context.slots["policy"].facts["artifact"]
        left: dict[Slot, SlotForecast] = {}
        for slot in self.options.slots:
            facts = model_info(start)
            if slot == "reward":
                facts = reward_info(facts)
            left[slot] = SlotForecast(made_by=context.step, facts={"model": facts})
        return Plan(summary=f"tiny models in {', '.join(self.options.slots)}", slots=left)

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
    runs: str = "runs",
    seed: int = 7,
    plugins: Iterable[object] = (),
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Run `stage` as the last step of a chain that is just long enough for it.

    Args:
        stage: With its options; paths in them start at `folder`.
        folder: Gets the data, the tiny model and the runs.
        files: Data to be written below `folder` first: rows, or text.
        fill: Slots to be filled though the stage does not require them.
        runs: Folder of the runs, below `folder`: another one shares nothing with this one.
        seed: Of the chain.
        plugins: To be used besides the installed ones.
        on_event: Hears each event; what it raises stops the run.
    """
    recipe = recipe_for(stage, folder, files=files, fill=fill, seed=seed, plugins=plugins)
    return recipe.run(runs=folder / runs, show=False, on_event=on_event)


def recipe_for(
    stage: Stage[Any],
    folder: Path,
    *,
    files: Mapping[str, Rows | str] | None = None,
    fill: Iterable[Slot] = (),
    seed: int = 7,
    plugins: Iterable[object] = (),
) -> Recipe:
    """The chain that `run_stage` runs."""
    write_files(folder, files or {})
    needed = stage.requires | set(fill)
    steps: list[Stage[Any]] = [stage]
    if others := sorted(needed - {"policy", "tokenizer"}):
        steps.insert(0, Filled(FilledOptions(slots=tuple(others))))
    model = None
    if needed:
        model = folder / MODEL
        if not model.is_dir():
            write_tiny(model)
    return Recipe(steps, model=model, name="one-stage", seed=seed, folder=folder, plugins=plugins)
