"""The plugin contract: what aligner asks a plugin, and when.

    hook                       asked                          answer
    aligner_stages             when a recipe is linked        the stages this plugin offers
    aligner_reward_functions   when a recipe is linked        functions that score completions
    aligner_data_sources       when a recipe is linked        generators of rows
    aligner_data_formats       when a recipe is linked        ways of writing rows
    aligner_row_operations     when a recipe is linked        operations on rows
    aligner_recipe_templates           by `aligner new recipe`    beginnings of recipes
    aligner_config_importers       by `aligner import`        readers of other tools' recipes
    aligner_step_started       before each step that runs     -
    aligner_step_progress      now and then while it runs     -
    aligner_step_finished      after each step that ran       -
    aligner_step_failed        after a step that did not      -

A plugin is a module that implements any of these with `@aligner.hookimpl`, named by an entry
point in the group `aligner`. It may take any of a hook's arguments, or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from aligner.registry import (
        ConfigImporter,
        DataFormat,
        DataSource,
        RecipeTemplate,
        RewardFunction,
        RowOperation,
    )
    from aligner.stage import Progress, Stage, StepContext
    from aligner.state import ModelState

PROJECT = "aligner"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def aligner_stages() -> Iterable[type[Stage[Any]]]:
    """Offer stages to recipes.

    Returns:
        Stage classes. Two plugins may not offer the same name.
    """
    return ()


@hookspec
def aligner_reward_functions() -> Iterable[type[RewardFunction]]:
    """Offer functions that score completions: rewards in training, judges in evaluation.

    Returns:
        RewardFunction classes. Two plugins may not offer the same name.
    """
    return ()


@hookspec
def aligner_data_sources() -> Iterable[type[DataSource]]:
    """Offer generators of rows, for `data: {source: NAME}`.

    Returns:
        DataSource classes. Two plugins may not offer the same name.
    """
    return ()


@hookspec
def aligner_data_formats() -> Iterable[DataFormat]:
    """Offer ways of writing rows, recognised and converted like aligner's own.

    Returns:
        DataFormat values. Two plugins may not offer the same name.
    """
    return ()


@hookspec
def aligner_row_operations() -> Iterable[type[RowOperation]]:
    """Offer operations on rows, for an option of a data entry or of a step that reads data.

    Returns:
        RowOperation classes. Two plugins may not offer the same name.
    """
    return ()


@hookspec
def aligner_recipe_templates() -> Iterable[RecipeTemplate]:
    """Offer beginnings of recipes to `aligner new recipe`.

    Returns:
        Outline values. Two plugins may not offer the same name.
    """
    return ()


@hookspec
def aligner_config_importers() -> Iterable[ConfigImporter]:
    """Offer to read other tools' recipes for `aligner import`.

    Returns:
        Translation values. Two plugins may not offer the same name.
    """
    return ()


@hookspec
def aligner_step_started(context: StepContext, state: ModelState) -> None:
    """Hear that a step is about to run on `state`."""


@hookspec
def aligner_step_progress(context: StepContext, progress: Progress) -> None:
    """Hear how far a running step is, with the metrics of the moment."""


@hookspec
def aligner_step_finished(context: StepContext, before: ModelState, after: ModelState) -> None:
    """Hear that a step turned `before` into `after`."""


@hookspec
def aligner_step_failed(context: StepContext, state: ModelState, error: BaseException) -> None:
    """Hear that a step raised `error`, which is raised again once every plugin has heard."""
