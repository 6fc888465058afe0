"""Compose one JSON Schema of a whole recipe, so that editors complete and check it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from aligner.stage import Stage

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


def recipe_schema(stages: Mapping[str, type[Stage[Any]]]) -> Schema:
    """The JSON Schema (draft 2020-12) of a whole recipe whose steps are of these `stages`.

    It accepts what reads well, but is stricter where the reader turns text into numbers, and
    cannot tell what needs more than the file itself: names of steps, data, models.
    """
    definitions = _definitions(stages)
    names = sorted(stages)
    step: Schema = {
        "type": "object",
        "properties": {"stage": {"enum": names, "description": "Which stage the step runs."}},
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
        "description": "A model, and the steps it goes through in order.",
        "type": "object",
        "properties": _top_level(),
        "additionalProperties": False,
        "if": {"required": ["extends"]},
        # What another recipe begins, this one need not repeat.
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
    """These together; a schema may not hold an empty `allOf`."""
    found = list(conditions)
    return {"allOf": found} if found else {}


def _is_stage(name: str) -> Schema:
    return {"properties": {"stage": {"const": name}}, "required": ["stage"]}


def _top_level() -> dict[str, Schema]:
    return {
        "name": {
            "description": "Names the run's folder; the file's own name where it is left out.",
            "anyOf": [
                {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
                {"$ref": "#/$defs/variable"},
            ],
        },
        "description": {"description": "What the recipe is for.", "type": "string"},
        "extends": {
            "description": "The recipe this one is laid over; relative to this file.",
            "anyOf": [
                _TEXT,
                {
                    "type": "object",
                    "properties": {
                        "recipe": _TEXT,
                        "until": {**_TEXT, "description": "The last step taken over."},
                    },
                    "required": ["recipe"],
                    "additionalProperties": False,
                },
            ],
        },
        "drop": {"description": "Steps of the extended recipe to leave out.", **_TEXTS},
        "seed": {
            "description": "What all randomness starts from.",
            "default": 0,
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
                {"$ref": "#/$defs/variable"},
            ],
        },
        "model": {
            "description": "The model the chain begins with: a folder, or an id on the hub.",
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
            "description": "What is done to the model, in order.",
            "type": "array",
            "items": {"$ref": "#/$defs/step"},
        },
    }


def _step_keys(name: str) -> dict[str, Schema]:
    return {
        "stage": {"const": name},
        "as": {"description": "The step's own name; the stage's where left out.", **_STEP_NAME},
        "gate": {
            "description": "Bounds on metrics of the step; the chain stops where one is not met.",
            "type": ["object", "null"],
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "pattern": rf"^\s*{_BOUND}(\s*\band\b\s*{_BOUND})*\s*$"},
                    {"type": "null"},
                    {"$ref": "#/$defs/variable"},
                ]
            },
        },
        "after": {"description": "The step this new one stands after.", **_STEP_NAME},
        "before": {"description": "The step this new one stands before.", **_STEP_NAME},
    }


class _Untitled(GenerateJsonSchema):
    """Without titles made of the names of fields, which say nothing the names do not."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _definitions(stages: Mapping[str, type[Stage[Any]]]) -> dict[str, Schema]:
    """`step-NAME` for each stage, and the models that their options use."""
    configs = list(dict.fromkeys(stage.Options for stage in stages.values()))
    references, together = models_json_schema(
        [(config, "validation") for config in configs], schema_generator=_Untitled
    )
    shared: dict[str, Schema] = together.get("$defs", {})
    for definition in shared.values():
        _admit_variables(definition)
    steps = {}
    for name, stage in stages.items():
        reference = references[stage.Options, "validation"]["$ref"]
        config = shared[reference.removeprefix("#/$defs/")]
        steps[f"step-{name}"] = {
            **config,
            "title": name,
            "description": inspect.cleandoc(stage.__doc__ or ""),
            "properties": {**_step_keys(name), **config.get("properties", {})},
        }
    return shared | steps


def _admit_variables(schema: Schema) -> None:
    """Where a number, a switch or a word of several is asked for, allow `${NAME}` too."""
    for part in ("properties", "$defs"):
        for key, below in schema.get(part, {}).items():
            schema[part][key] = _or_variable(below)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            schema[part] = _or_variable(schema[part])
    for part in ("anyOf", "oneOf", "allOf"):
        for below in schema.get(part, ()):
            _admit_variables(below)


def _or_variable(schema: Schema) -> Schema:
    _admit_variables(schema)
    variable = {"$ref": "#/$defs/variable"}
    members = schema.get("anyOf", [schema])
    words = [one for one in members if {"enum", "const"} & one.keys()]
    kinds = {one.get("type") for one in members if one not in words}
    if "string" in kinds or not (words or kinds & {"integer", "number", "boolean"}):
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*members, variable]}
    about: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in about}
    return {**about, "anyOf": [rest, variable]}
