"""What the command line does, in Python: a recipe loaded or built, checked, run, and its result."""

from aligner.api.checked import Checked
from aligner.api.previewed import Preview
from aligner.api.recipe import Recipe, Step
from aligner.api.result import Result, StepView

__all__ = ["Checked", "Preview", "Recipe", "Result", "Step", "StepView"]
