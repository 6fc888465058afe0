"""Align a language model by a chain of stages, each one a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aligner.api import Checked, Recipe, Result, Step
    from aligner.errors import AlignerError, StageError
    from aligner.hookspecs import hookimpl
    from aligner.offers import (
        Completion,
        DataFormat,
        DataSource,
        OfferConfig,
        Offers,
        RewardFunction,
    )
    from aligner.stage import Look, Outlook, Plan, Progress, Run, Stage, StageConfig
    from aligner.state import Artifact, Live, ModelState, Slot
else:
    # The names of these modules load when first used: pydantic alone takes longer than `aligner --help` may.
    _HOMES = {
        "api": ("Checked", "Recipe", "Result", "Step"),
        "errors": ("AlignerError", "StageError"),
        "hookspecs": ("hookimpl",),
        "offers": (
            "Completion",
            "DataFormat",
            "DataSource",
            "OfferConfig",
            "Offers",
            "RewardFunction",
        ),
        "stage": ("Look", "Outlook", "Plan", "Progress", "Run", "Stage", "StageConfig"),
        "state": ("Artifact", "Live", "ModelState", "Slot"),
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
    "Checked",
    "Completion",
    "DataFormat",
    "DataSource",
    "Live",
    "Look",
    "ModelState",
    "OfferConfig",
    "Offers",
    "Outlook",
    "Plan",
    "Progress",
    "Recipe",
    "Result",
    "RewardFunction",
    "Run",
    "Slot",
    "Stage",
    "StageConfig",
    "StageError",
    "Step",
    "hookimpl",
]
