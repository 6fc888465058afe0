"""Templates of `aligner new recipe` for aligner's own stages, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner_recipe_templates.templates import TEMPLATES


@aligner.hookimpl
def aligner_recipe_templates() -> Iterable[aligner.RecipeTemplate]:
    return TEMPLATES
