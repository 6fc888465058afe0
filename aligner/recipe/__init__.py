"""Read a recipe: YAML in, a Recipe out, every complaint with its file and line."""

from aligner.recipe.bound import Bound
from aligner.recipe.parts import ModelSpec, Recipe, Step
from aligner.recipe.read import read_recipe, recipe_from

__all__ = ["Bound", "ModelSpec", "Recipe", "Step", "read_recipe", "recipe_from"]
