"""Build the JSON Schema of a recipe, so that editors complete and check it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from aligner.options.row_operations import Operations, with_operations
from aligner.stage import Stage, StageOptions

Schema = dict[str, Any]

_NUMBER = r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?"
_BOUND = rf"((<|<=|>|>=)\s*{_NUMBER}|{_NUMBER}\s*\.\.\s*{_NUMBER})"
_VARIABLE: Schema = {
    "description": "Text with environment variables: `${NAME}` or `${NAME:-default}`.",
    "type": "string",
    "pattern": r"\$\{",
}
_STEP_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}
_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}


def recipe_schema(stages: Mapping[str, type[Stage[Any]]], operations: Operations) -> Schema:
    """Return the JSON Schema (draft 2020-12) of a recipe of these `stages` and row `operations`.

    It is stricter than the reader where the reader converts text to numbers, and it cannot check
    what is outside the file: names of steps in an extended recipe, data, models.
    """
    models = {name: with_operations(stage.Options, operations) for name, stage in stages.items()}
    definitions = _definitions(stages, models)
    names = sorted(stages)
    step: Schema = {
        "type": "object",
        "properties": {"stage": {"enum": names, "description": "Stage that the step runs."}},
        **_all_of(
            {"if": _is_stage(name), "then": {"$ref": f"#/$defs/step-{name}"}} for name in names
        ),
    }
    required = _all_of(
        {"if": _is_stage(name), "then": {"required": needed}}
        for name in names
        if (needed := definitions[f"step-{name}"].pop("required", None))
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aligner recipe",
        "description": "A model and the steps that are applied to it in order.",
        "type": "object",
        "properties": _top_level(),
        "additionalProperties": False,
        "if": {"required": ["extends"]},
        # A recipe that extends another one need not repeat its keys.
        "then": {
            "properties": {
                "steps": {"items": {"anyOf": [{"required": ["stage"]}, {"required": ["as"]}]}}
            }
        },
        "else": {
            "required": ["steps"],
            "properties": {
                "drop": False,
                "steps": {"minItems": 1, "items": {"required": ["stage"], **required}},
            },
        },
        "$defs": {**definitions, "step": step, "variable": _VARIABLE},
    }


def _all_of(conditions: Iterable[Schema]) -> Schema:
    """Return a schema that requires all conditions; an empty `allOf` is invalid."""
    found = list(conditions)
    return {"allOf": found} if found else {}


def _is_stage(name: str) -> Schema:
    return {"properties": {"stage": {"const": name}}, "required": ["stage"]}


def _top_level() -> dict[str, Schema]:
    return {
        "name": {
            "description": "Name of the run's folder; the file name by default.",
            "anyOf": [
                {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
                {"$ref": "#/$defs/variable"},
            ],
        },
        "description": {"description": "Purpose of the recipe.", "type": "string"},
        "extends": {
            "description": "Recipe that this one extends; relative to this file.",
            "anyOf": [
                _TEXT,
                {
                    "type": "object",
                    "properties": {
                        "recipe": _TEXT,
                        "until": {**_TEXT, "description": "Last step to include."},
                    },
                    "required": ["recipe"],
                    "additionalProperties": False,
                },
            ],
        },
        "drop": {"description": "Steps of the extended recipe to leave out.", **_TEXTS},
        "seed": {
            "description": "Seed of all random number generators.",
            "default": 0,
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
                {"$ref": "#/$defs/variable"},
            ],
        },
        "model": {
            "description": "Initial model: a folder or a hub id.",
            "anyOf": [
                _TEXT,
                {
                    "type": "object",
                    "properties": {"path": _TEXT, "revision": _TEXT},
                    "required": ["path"],
                    "additionalProperties": False,
                },
            ],
        },
        "steps": {
            "description": "Steps in the order in which they run.",
            "type": "array",
            "items": {"$ref": "#/$defs/step"},
        },
    }


def _step_keys(name: str) -> dict[str, Schema]:
    return {
        "stage": {"const": name},
        "as": {"description": "Name of the step; the name of the stage by default.", **_STEP_NAME},
        "gate": {
            "description": "Bounds on metrics of the step; the chain stops if one is not met.",
            "type": ["object", "null"],
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "pattern": rf"^\s*{_BOUND}(\s*\band\b\s*{_BOUND})*\s*$"},
                    {"type": "null"},
                    {"$ref": "#/$defs/variable"},
                ]
            },
        },
        "after": {"description": "Insert the new step after this one.", **_STEP_NAME},
        "before": {"description": "Insert the new step before this one.", **_STEP_NAME},
    }


class _Untitled(GenerateJsonSchema):
    """Schema generator without titles, which would only repeat the field names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _definitions(
    stages: Mapping[str, type[Stage[Any]]], models: Mapping[str, type[StageOptions]]
) -> dict[str, Schema]:
    """Return `step-NAME` for each stage, and the models that their options use."""
    classes = list(dict.fromkeys(models.values()))
    references, combined = models_json_schema(
        [(options, "validation") for options in classes], schema_generator=_Untitled
    )
    shared: dict[str, Schema] = combined.get("$defs", {})
    for definition in shared.values():
        _allow_variables(definition)
    steps = {}
    for name, stage in stages.items():
        reference = references[models[name], "validation"]["$ref"]
        options = shared[reference.removeprefix("#/$defs/")]
        steps[f"step-{name}"] = {
            **options,
            "title": name,
            "description": inspect.cleandoc(stage.__doc__ or ""),
            "properties": {**_step_keys(name), **options.get("properties", {})},
        }
    return shared | steps


def _allow_variables(schema: Schema) -> None:
    """Allow `${NAME}` wherever a number, a boolean or one of several words is expected."""
    for part in ("properties", "$defs"):
        for key, inner in schema.get(part, {}).items():
            schema[part][key] = _or_variable(inner)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            schema[part] = _or_variable(schema[part])
    for part in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(part, ()):
            _allow_variables(inner)


def _or_variable(schema: Schema) -> Schema:
    _allow_variables(schema)
    variable = {"$ref": "#/$defs/variable"}
    members = schema.get("anyOf", [schema])
    words = [member for member in members if {"enum", "const"} & member.keys()]
    kinds = {member.get("type") for member in members if member not in words}
    if "string" in kinds or not (words or kinds & {"integer", "number", "boolean"}):
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*members, variable]}
    notes: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in notes}
    return {**notes, "anyOf": [rest, variable]}
