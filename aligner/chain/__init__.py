"""Link a recipe to stages, check it whole, say what it will do, and run it."""

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
from aligner.chain.link import Chain, Link, link
from aligner.chain.look import Checked, check
from aligner.chain.preview import Preview, StepPreview, preview

__all__ = [
    "Chain",
    "Checked",
    "Event",
    "Link",
    "Outcome",
    "Preview",
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
