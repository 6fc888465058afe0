"""Link a recipe to stages, check it, preview its rows, and run it."""

from aligner.chain.check import CheckedChain, check
from aligner.chain.events import (
    Event,
    RunFinished,
    StepFailed,
    StepFinished,
    StepProgress,
    StepReused,
    StepStarted,
)
from aligner.chain.execute import Outcome, StepResult, find_finished, run
from aligner.chain.link import Chain, ChainStep, link
from aligner.chain.preview import ChainPreview, StepPreview, preview

__all__ = [
    "Chain",
    "ChainPreview",
    "ChainStep",
    "CheckedChain",
    "Event",
    "Outcome",
    "RunFinished",
    "StepFailed",
    "StepFinished",
    "StepPreview",
    "StepProgress",
    "StepResult",
    "StepReused",
    "StepStarted",
    "check",
    "find_finished",
    "link",
    "preview",
    "run",
]
