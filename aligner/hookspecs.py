"""Hooks: the functions that a plugin can implement, and when aligner calls them.

    hook                       called                         returns
    aligner_stages             when a recipe is linked        stages
    aligner_reward_functions   when a recipe is linked        functions that score completions
    aligner_data_sources       when a recipe is linked        generators of rows
    aligner_data_formats       when a recipe is linked        row formats
    aligner_row_operations     when a recipe is linked        operations on rows
    aligner_recipe_templates   by `aligner new recipe`        templates of recipes
    aligner_config_importers   by `aligner import`            importers of other tools' configs
    aligner_step_started       before a step runs             -
    aligner_step_progress      while a step runs              -
    aligner_step_finished      after a step has finished      -
    aligner_step_failed        after a step has failed        -

A plugin is a module with functions of these names, marked `@aligner.hookimpl`; an entry point in
the group `aligner` names the module. A function takes any of the hook's arguments, by name.
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
    """Return the stages of this plugin.

    Returns:
        Stage classes, with unique names among all plugins.
    """
    return ()


@hookspec
def aligner_reward_functions() -> Iterable[type[RewardFunction]]:
    """Return functions that score completions: rewards in training, judges in evaluation.

    Returns:
        RewardFunction classes, with unique names among all plugins.
    """
    return ()


@hookspec
def aligner_data_sources() -> Iterable[type[DataSource]]:
    """Return generators of rows, for `data: {source: NAME}`.

    Returns:
        DataSource classes, with unique names among all plugins.
    """
    return ()


@hookspec
def aligner_data_formats() -> Iterable[DataFormat]:
    """Return row formats, which are detected and converted like aligner's own.

    Returns:
        DataFormat values, with unique names among all plugins.
    """
    return ()


@hookspec
def aligner_row_operations() -> Iterable[type[RowOperation]]:
    """Return operations on rows, for an option of a data entry or of a step that reads data.

    Returns:
        RowOperation classes, with unique names among all plugins.
    """
    return ()


@hookspec
def aligner_recipe_templates() -> Iterable[RecipeTemplate]:
    """Return templates of recipes, for `aligner new recipe`.

    Returns:
        RecipeTemplate values, with unique names among all plugins.
    """
    return ()


@hookspec
def aligner_config_importers() -> Iterable[ConfigImporter]:
    """Return importers of other tools' configuration files, for `aligner import`.

    Returns:
        ConfigImporter values, with unique names among all plugins.
    """
    return ()


@hookspec
def aligner_step_started(context: StepContext, state: ModelState) -> None:
    """Handle the start of a step on `state`."""


@hookspec
def aligner_step_progress(context: StepContext, progress: Progress) -> None:
    """Handle a progress report, with current metrics, of a running step."""


@hookspec
def aligner_step_finished(context: StepContext, before: ModelState, after: ModelState) -> None:
    """Handle the end of a step that turned the state `before` into `after`; its output is saved."""


@hookspec
def aligner_step_failed(context: StepContext, state: ModelState, error: BaseException) -> None:
    """Handle the failure of a step; `error` is raised again afterwards."""
