"""Recipes: YAML in, a `RecipeSpec` out, every error with file and line."""

from aligner.recipe.bound import Bound
from aligner.recipe.read import read_recipe, recipe_from
from aligner.recipe.recipe import ModelSpec, RecipeSpec, StepSpec

__all__ = ["Bound", "ModelSpec", "RecipeSpec", "StepSpec", "read_recipe", "recipe_from"]
