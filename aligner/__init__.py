"""Align a language model by a chain of stages, each one a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aligner.api import CheckedRecipe, Recipe, Result, Step
    from aligner.errors import AlignerError, StageError
    from aligner.hookspecs import hookimpl
    from aligner.registry import (
        Completion,
        ConfigImporter,
        DataFormat,
        DatasetSummary,
        DataSource,
        ExtensionOptions,
        ExternalConfig,
        ImportNote,
        ImportNoteKind,
        ImportResult,
        OperationContext,
        RecipeTemplate,
        Registry,
        RewardFunction,
        RowOperation,
        TemplateInputs,
    )
    from aligner.stage import (
        Plan,
        PlanContext,
        Progress,
        SlotForecast,
        Stage,
        StageOptions,
        StepContext,
    )
    from aligner.state import Artifact, ModelCache, ModelState, Slot
else:
    # The names of these modules load when first used: pydantic alone takes longer than `aligner --help` may.
    _HOMES = {
        "api": ("CheckedRecipe", "Recipe", "Result", "Step"),
        "errors": ("AlignerError", "StageError"),
        "hookspecs": ("hookimpl",),
        "registry": (
            "Completion",
            "ConfigImporter",
            "DataFormat",
            "DataSource",
            "DatasetSummary",
            "ExtensionOptions",
            "ExternalConfig",
            "ImportNote",
            "ImportNoteKind",
            "ImportResult",
            "OperationContext",
            "RecipeTemplate",
            "Registry",
            "RewardFunction",
            "RowOperation",
            "TemplateInputs",
        ),
        "stage": (
            "PlanContext",
            "SlotForecast",
            "Plan",
            "Progress",
            "StepContext",
            "Stage",
            "StageOptions",
        ),
        "state": ("Artifact", "ModelCache", "ModelState", "Slot"),
    }

    def __getattr__(name):
        from importlib import import_module

        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"aligner.{home}"), name)
                return value
        raise AttributeError(f"module 'aligner' has no attribute {name!r}")


__all__ = [
    "AlignerError",
    "Artifact",
    "CheckedRecipe",
    "Completion",
    "ConfigImporter",
    "DataFormat",
    "DataSource",
    "DatasetSummary",
    "ExtensionOptions",
    "ExternalConfig",
    "ImportNote",
    "ImportNoteKind",
    "ImportResult",
    "ModelCache",
    "ModelState",
    "OperationContext",
    "Plan",
    "PlanContext",
    "Progress",
    "Recipe",
    "RecipeTemplate",
    "Registry",
    "Result",
    "RewardFunction",
    "RowOperation",
    "Slot",
    "SlotForecast",
    "Stage",
    "StageError",
    "StageOptions",
    "Step",
    "StepContext",
    "TemplateInputs",
    "hookimpl",
]
