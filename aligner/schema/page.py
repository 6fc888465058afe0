"""Write up one stage from its declaration, for a terminal or the documentation."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from aligner.fields import models_below
from aligner.recipe.tree import show
from aligner.stage import Stage

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
    """One option as its declaration has it."""

    name: str
    kind: str
    """What may be written: `number > 0`, `'a' | 'b'`, `list of text`."""
    default: str
    """As a recipe would write it; `required` where there is none."""
    text: str
    """The documentation under the field, on one line."""


def options_of(model: type[BaseModel]) -> tuple[Option, ...]:
    """The options that `model` declares, in its order."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    if "$ref" in schema:  # a model that contains itself
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    schema = next((one for one in (schema, *schema.get("anyOf", ())) if "properties" in one), {})
    written = schema.get("properties", {})
    return tuple(
        Option(
            name=name,
            kind=_kind(written[name], definitions),
            default=_default(field.get_default(call_default_factory=True, validated_data={})),
            text=" ".join((field.description or "").split()),
        )
        for name, field in model.model_fields.items()
    )


def describe_stage(stage: type[Stage[Any]]) -> str:
    """What `stage` does, the slots it reads and fills, and its options, as plain text."""
    says = inspect.cleandoc(stage.__doc__ or "(not written up)")
    parts = [f"{stage.name}: {says}", "\n".join(_slots(stage)), _table("options", stage.Options)]
    for model in models_below(stage.Options):
        title = f"{model.__name__}: {inspect.cleandoc(model.__doc__ or '')}".rstrip(": ")
        parts.append(_table(title, model))
    return "\n\n".join(parts) + "\n"


def _slots(stage: type[Stage[Any]]) -> Iterator[str]:
    # Options without a default are not there; what a declaration asks of these cannot be told.
    made = stage(stage.Options.model_construct())
    for part in ("requires", "uses", "provides"):
        declared, note = getattr(stage, part), ""
        if declared is getattr(Stage, part):
            continue
        if isinstance(declared, property):
            try:
                declared = getattr(made, part)
                note = "  (where the options are left at their defaults)"
            except AttributeError:
                declared = None
        names = "depends on the options" if declared is None else ", ".join(sorted(declared))
        yield f"{part:<8}  {names or 'nothing'}{note}"


def _table(title: str, model: type[BaseModel]) -> str:
    options = sorted(options_of(model), key=lambda one: one.default != "required")
    lines = [title, *("  (none)" for _ in range(not options))]
    for one in options:
        default = one.default if one.default == "required" else f"default {one.default}"
        lines.append(f"  {one.name}: {one.kind}; {default}")
        if one.text:
            lines.append(textwrap.indent(textwrap.fill(one.text, WIDTH - 6), " " * 6))
    return "\n".join(lines)


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON Schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _kind(definitions[name], definitions) if "enum" in definitions[name] else str(name)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            kinds = dict.fromkeys(_kind(one, definitions) for one in schema[several])
            return " | ".join(kind for kind in kinds if kind != "null")
    if "const" in schema or "enum" in schema:
        return " | ".join(map(show, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        items = schema.get("prefixItems", [schema["items"]] if "items" in schema else [])
        kinds = dict.fromkeys(_kind(one, definitions) for one in items)
        return f"list of {' | '.join(kinds)}" if kinds else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping to {_kind(schema['additionalProperties'], definitions)}"
    limits = [said.format(f"{schema[key]:g}") for key, said in _LIMITS.items() if key in schema]
    return " ".join([_KINDS.get(schema.get("type", ""), "anything"), " and ".join(limits)]).rstrip()


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        written = value.model_dump(exclude_unset=True)
        return f"{{{', '.join(f'{key}: {_default(item)}' for key, item in written.items())}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_default(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(_default, value))}]"
    return str(value) if isinstance(value, str) and value else show(value)
