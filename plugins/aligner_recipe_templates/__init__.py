"""Beginnings of recipes for the methods that aligner's own stages make, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner.registry import RecipeTemplate
from aligner_recipe_templates.recipe_templates import OUTLINES


@aligner.hookimpl
def aligner_recipe_templates() -> Iterable[RecipeTemplate]:
    return OUTLINES
