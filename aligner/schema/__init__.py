"""Say what a recipe may hold: one JSON Schema for editors, and a page a stage for people."""

from aligner.schema.editor import recipe_schema
from aligner.schema.page import Option, describe_stage, options_of

__all__ = ["Option", "describe_stage", "options_of", "recipe_schema"]
