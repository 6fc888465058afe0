"""Align a language model by a chain of stages, each one a plugin."""

from aligner.errors import AlignerError, StageError
from aligner.hookspecs import hookimpl
from aligner.offers import Completion, DataFormat, DataSource, OfferConfig, Offers, RewardFunction
from aligner.stage import Look, Outlook, Plan, Progress, Run, Stage, StageConfig
from aligner.state import Artifact, Live, ModelState, Slot

__all__ = [
    "AlignerError",
    "Artifact",
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
    "RewardFunction",
    "Run",
    "Slot",
    "Stage",
    "StageConfig",
    "StageError",
    "hookimpl",
]
