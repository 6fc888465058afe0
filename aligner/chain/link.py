"""Link each step of a recipe to an installed stage and check slots and step names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.errors import AlignerError, ChainError, PluginError, did_you_mean, error_location
from aligner.host import Host
from aligner.models.resolve import resolve, resolve_tokenizer
from aligner.options.validation import validate
from aligner.recipe import RecipeSpec, StepSpec
from aligner.stage import Stage, slots_by_default
from aligner.state import Artifact, ModelState, Slot

START = "model"
"""Name of the initial state, for steps that read earlier states."""


@dataclass(frozen=True)
class ChainStep:
    """A step of the recipe with the stage, options included, that runs it."""

    number: int
    spec: StepSpec
    stage: Stage[Any]
    plugin_version: str
    """Name and version of the plugin that offers the stage."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def where(self) -> str:
        """`file:line` of the step in the recipe."""
        return self.spec.where


@dataclass(frozen=True)
class Chain:
    """A recipe linked to stages: without errors, every required slot is filled when a step starts."""

    recipe: RecipeSpec
    steps: tuple[ChainStep, ...]
    start: ModelState
    errors: tuple[AlignerError, ...] = field(default=(), repr=False)
    unsure: frozenset[Slot] = frozenset()
    """Slots whose content is unknown because a step that may fill them could not be linked."""


def link(recipe: RecipeSpec, host: Host) -> Chain:
    """Link each step to its stage, and collect all errors instead of stopping at the first."""
    start, start_errors = _start(recipe)
    errors = [*recipe.errors, *start_errors]
    filled = start.filled() | (frozenset({"policy", "tokenizer"}) if start_errors else frozenset())
    # After a step that could not be linked, any slot may be filled, so no slot can be reported empty.
    unlinked = bool(recipe.errors)
    unsure: frozenset[Slot] = frozenset()
    steps: list[ChainStep] = []
    operations = host.registry().row_operations
    for number, step in enumerate(recipe.steps, start=1):
        try:
            stage_type = host.stage(step.stage, where=step.where)
            stage = stage_type(validate(step, stage_type, operations))
        except AlignerError as error:
            errors.append(error)
            unlinked = True
            continue
        if not unlinked:
            errors += [_unmet(step, slot, recipe, host) for slot in sorted(stage.requires - filled)]
        errors += _undeclared(step, stage, host)
        errors += _unknown_past(step, stage, recipe.steps[: number - 1])
        if without := _without_rows(step, stage, recipe.steps[: number - 1], steps):
            errors += without
            unsure |= {"data"}
        filled |= stage.requires | stage.provides
        steps.append(ChainStep(number, step, stage, host.plugin_version(step.stage)))
    if unlinked:
        unsure |= frozenset().union(
            *(linked.stage.requires | linked.stage.uses for linked in steps), {"data"}
        )
    return Chain(recipe, tuple(steps), start, tuple(errors), unsure)


def _start(recipe: RecipeSpec) -> tuple[ModelState, list[AlignerError]]:
    """Return the initial state (the model and its tokenizer) and the errors in finding it."""
    if recipe.model is None:
        return ModelState(), []
    folder = recipe.folder / recipe.model.path
    path = str(folder) if folder.is_dir() else recipe.model.path
    slots: dict[str, Artifact] = {}
    errors: list[AlignerError] = []
    for slot, find in (("policy", resolve), ("tokenizer", resolve_tokenizer)):
        try:
            with error_location(recipe.model_where):
                slots[slot] = find(path, recipe.model.revision)
        except AlignerError as error:
            errors.append(error)
    return ModelState().put(START, **slots), errors[:1]


def _unmet(step: StepSpec, slot: Slot, recipe: RecipeSpec, host: Host) -> ChainError:
    fillers = sorted(
        name
        for name, stage in host.stages().items()
        if name != step.stage
        if slot in {*stage.declares, *(slots_by_default(stage, "provides") or ())}
    )
    hint = f"put a step before it that fills {slot!r}: {', '.join(fillers) or 'none is installed'}"
    if recipe.model is None and slot in ("policy", "tokenizer"):
        hint += "; or name a model to begin with: `model: PATH`"
    return ChainError(
        f"step {step.name!r} requires {slot!r}, and nothing before it fills that slot",
        where=step.where,
        hint=hint,
    )


def _undeclared(step: StepSpec, stage: Stage[Any], host: Host) -> list[AlignerError]:
    """Report slots that the stage fills and no installed stage declares."""
    known = host.slots()
    return [
        PluginError(
            f"stage {stage.name!r} provides slot {slot!r}, which no installed plugin declares",
            where=step.where,
            hint=did_you_mean(slot, known),
        )
        for slot in sorted(stage.provides - known.keys())
    ]


def _unknown_past(
    step: StepSpec, stage: Stage[Any], earlier: Sequence[StepSpec]
) -> list[AlignerError]:
    known = [START, *(before.name for before in earlier)]
    return [
        ChainError(
            f"step {step.name!r} reads the state of {name!r}, which is not an earlier step",
            where=step.where,
            hint=did_you_mean(name, known),
        )
        for name in stage.earlier_steps
        if name not in known
    ]


def _without_rows(
    step: StepSpec,
    stage: Stage[Any],
    earlier: Sequence[StepSpec],
    linked_steps: Sequence[ChainStep],
) -> list[AlignerError]:
    """Report options that read the rows of a step that is not earlier or makes none."""
    makers = [linked.name for linked in linked_steps if "data" in linked.stage.provides]
    names = {linked.name for linked in linked_steps}
    errors: list[AlignerError] = []
    for option, name in stage.options.rows_from().items():
        if name in makers:
            continue
        if name in names:
            what = f"step {step.name!r} reads the rows of step {name!r}, which makes none"
            hint = f"steps before it that make rows: {', '.join(makers) or 'none'}"
        elif len(names) < len(earlier):
            continue  # it may be a step that could not be linked
        else:
            what = f"step {step.name!r} reads the rows of {name!r}, which is not an earlier step"
            hint = did_you_mean(name, makers)
        errors.append(ChainError(what, where=step.at(option), hint=hint))
    return errors
