"""The Python interface: load or build a recipe, check it, run it, use its models."""

from aligner.api.checked_recipe import CheckedRecipe
from aligner.api.recipe import Recipe, Step
from aligner.api.recipe_preview import RecipePreview
from aligner.api.result import Result, StepOutput

__all__ = ["CheckedRecipe", "Recipe", "RecipePreview", "Result", "Step", "StepOutput"]
