"""Match each step of a recipe to an installed stage and check that the chain holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.errors import AlignerError, ChainError, did_you_mean
from aligner.host import Host
from aligner.models.resolve import resolve, resolve_tokenizer
from aligner.options.validation import validate
from aligner.recipe import RecipeSpec, StepSpec
from aligner.stage import Stage
from aligner.state import SLOTS, Artifact, ModelState, Slot

START = "model"
"""The name under which the chain's beginning is known to steps that look back."""


@dataclass(frozen=True)
class ChainStep:
    """A step of the recipe and the stage, fully configured, that will run it."""

    number: int
    step: StepSpec
    stage: Stage[Any]
    plugin_version: str
    """The plugin and its version that offer the stage."""


@dataclass(frozen=True)
class Chain:
    """A recipe linked to stages: without errors, every need is met by the model or an earlier link."""

    recipe: RecipeSpec
    links: tuple[ChainStep, ...]
    start: ModelState
    errors: tuple[AlignerError, ...] = field(default=(), repr=False)
    unsure: frozenset[Slot] = frozenset()
    """Slots whose content is unknown because the step that fills them could not be linked."""


def link(recipe: RecipeSpec, host: Host) -> Chain:
    """Match each step to a stage, collecting every error instead of stopping at the first."""
    start, errors = _start(recipe)
    filled: dict[Slot, str] = dict.fromkeys(start.filled(), START)
    unsure: frozenset[Slot] = frozenset()
    if recipe.errors:
        # Steps may be missing from it, so no slot can be said to be empty.
        filled, unsure = dict.fromkeys(SLOTS, START), SLOTS
    elif errors:
        filled |= dict.fromkeys(("policy", "tokenizer"), START)
    errors = [*recipe.errors, *errors]
    links: list[ChainStep] = []
    for number, step in enumerate(recipe.steps, start=1):
        try:
            stage_type = host.stage(step.stage, where=step.where)
            stage = stage_type(validate(step, stage_type))
        except AlignerError as error:
            errors.append(error)
            # What this step would fill is not known, so nothing after it can be said to be missing.
            filled |= dict.fromkeys(SLOTS, step.name)
            unsure = SLOTS
            continue
        for slot in sorted(stage.requires - filled.keys()):
            errors.append(_unmet(step, slot, recipe, host))
            filled[slot] = step.name
        errors += _unknown_past(step, stage, recipe.steps[: number - 1])
        if without := _without_rows(step, stage, recipe.steps[: number - 1], links):
            errors += without
            unsure |= {"data"}
        filled |= dict.fromkeys(stage.provides, step.name)
        links.append(ChainStep(number, step, stage, host.plugin_version(step.stage)))
    return Chain(recipe, tuple(links), start, tuple(errors), unsure)


def _start(recipe: RecipeSpec) -> tuple[ModelState, list[AlignerError]]:
    """The state a chain begins with: the model's weights, and its tokenizer."""
    if recipe.model is None:
        return ModelState(), []
    beside = recipe.folder / recipe.model.path
    path = str(beside) if beside.is_dir() else recipe.model.path
    slots: dict[str, Artifact] = {}
    errors: list[AlignerError] = []
    for slot, find in (("policy", resolve), ("tokenizer", resolve_tokenizer)):
        try:
            slots[slot] = find(path, recipe.model.revision, where=recipe.model_where)
        except AlignerError as error:
            errors.append(error)
    return ModelState().put(START, **slots), errors[:1]


def _unmet(step: StepSpec, slot: Slot, recipe: RecipeSpec, host: Host) -> ChainError:
    # A property's answer depends on options not written yet; a class attribute is enough for a hint.
    fillers = sorted(
        name
        for name, stage in host.stages().items()
        if isinstance(stage.provides, frozenset) and slot in stage.provides and name != step.stage
    )
    hint = f"put a step before it that fills {slot!r}: {', '.join(fillers) or 'none is installed'}"
    if recipe.model is None and slot in ("policy", "tokenizer"):
        hint += "; or name a model to begin with: `model: PATH`"
    return ChainError(
        f"step {step.name!r} requires {slot!r}, and nothing before it fills that slot",
        where=step.where,
        hint=hint,
    )


def _unknown_past(
    step: StepSpec, stage: Stage[Any], earlier: Sequence[StepSpec]
) -> list[AlignerError]:
    known = [START, *(one.name for one in earlier)]
    return [
        ChainError(
            f"step {step.name!r} looks back at {name!r}, and no earlier step is called that",
            where=step.where,
            hint=did_you_mean(name, known),
        )
        for name in stage.earlier_steps
        if name not in known
    ]


def _without_rows(
    step: StepSpec, stage: Stage[Any], earlier: Sequence[StepSpec], links: Sequence[ChainStep]
) -> list[AlignerError]:
    """Options that ask for the rows of a step that does not come before, or makes none."""
    makers = [one.step.name for one in links if "data" in one.stage.provides]
    linked = {one.step.name for one in links}
    errors: list[AlignerError] = []
    for option, name in stage.options.rows_from().items():
        if name in makers:
            continue
        if name in linked:
            what = f"step {step.name!r} reads the rows of step {name!r}, which makes none"
            hint = f"steps before it that make rows: {', '.join(makers) or 'none'}"
        elif len(linked) < len(earlier):
            continue  # one that could not be linked may be meant
        else:
            what = (
                f"step {step.name!r} reads the rows of {name!r}, and no earlier step is called that"
            )
            hint = did_you_mean(name, makers)
        errors.append(ChainError(what, where=step.at(option), hint=hint))
    return errors
