"""Describe a stage from its declaration, for a terminal or the documentation."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from aligner.options.fields import nested_models
from aligner.options.row_operations import Operations, with_operations
from aligner.recipe.tree import show
from aligner.stage import Stage, slots_by_default

WIDTH = 92
_KINDS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "object": "mapping",
    "array": "list",
    "null": "null",
}
_LIMITS = {
    "exclusiveMinimum": "> {}",
    "minimum": ">= {}",
    "exclusiveMaximum": "< {}",
    "maximum": "<= {}",
}


@dataclass(frozen=True)
class Option:
    """An option as declared."""

    name: str
    kind: str
    """Allowed values: `number > 0`, `'a' | 'b'`, `list of text`."""
    default: str
    """Default value as written in a recipe, or `required`."""
    text: str
    """Documentation of the field, on one line."""


def options_of(model: type[BaseModel]) -> tuple[Option, ...]:
    """Return the options of `model` in order of declaration."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    if "$ref" in schema:  # a model that contains itself
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    members = (schema, *schema.get("anyOf", ()))
    properties: dict[str, Any] = next((m["properties"] for m in members if "properties" in m), {})
    return tuple(
        Option(
            name=name,
            kind=_kind(properties[name], definitions),
            default=_default(field.get_default(call_default_factory=True, validated_data={})),
            text=" ".join((field.description or "").split()),
        )
        for name, field in model.model_fields.items()
    )


def describe_stage(stage: type[Stage[Any]], operations: Operations) -> str:
    """Return the purpose of `stage`, its slots and its options, row operations included, as plain text."""
    purpose = inspect.cleandoc(stage.__doc__ or "(no documentation)")
    options = with_operations(stage.Options, operations)
    parts = [f"{stage.name}: {purpose}", "\n".join(_slots(stage)), _table("options", options)]
    for model in nested_models(options):
        title = f"{model.__name__}: {inspect.cleandoc(model.__doc__ or '')}".rstrip(": ")
        parts.append(_table(title, model))
    return "\n\n".join(parts) + "\n"


def _slots(stage: type[Stage[Any]]) -> Iterator[str]:
    for part in ("requires", "uses", "provides"):
        if getattr(stage, part) is getattr(Stage, part):
            continue
        slots = slots_by_default(stage, part)
        names = "depends on the options" if slots is None else ", ".join(sorted(slots))
        varies = slots is not None and isinstance(getattr(stage, part), property)
        note = "  (with default options)" if varies else ""
        yield f"{part:<8}  {names or 'nothing'}{note}"
    for slot, text in stage.declares.items():
        yield f"declares  {slot}: {text}"


def _table(title: str, model: type[BaseModel]) -> str:
    options = sorted(options_of(model), key=lambda option: option.default != "required")
    lines = [title] if options else [title, "  (none)"]
    for option in options:
        default = option.default if option.default == "required" else f"default {option.default}"
        lines.append(f"  {option.name}: {option.kind}; {default}")
        if option.text:
            lines.append(textwrap.indent(textwrap.fill(option.text, WIDTH - 6), " " * 6))
    return "\n".join(lines)


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return a JSON Schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _kind(definitions[name], definitions) if "enum" in definitions[name] else str(name)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            kinds = dict.fromkeys(_kind(member, definitions) for member in schema[several])
            return " | ".join(kind for kind in kinds if kind != "null")
    if "const" in schema or "enum" in schema:
        return " | ".join(map(show, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        items = schema.get("prefixItems", [schema["items"]] if "items" in schema else [])
        kinds = dict.fromkeys(_kind(item, definitions) for item in items)
        return f"list of {' | '.join(kinds)}" if kinds else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping to {_kind(schema['additionalProperties'], definitions)}"
    limits = [text.format(f"{schema[key]:g}") for key, text in _LIMITS.items() if key in schema]
    return " ".join([_KINDS.get(schema.get("type", ""), "anything"), " and ".join(limits)]).rstrip()


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_default(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(_default, value))}]"
    return str(value) if isinstance(value, str) and value else show(value)
