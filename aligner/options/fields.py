"""Look up fields of options classes: at a dotted path, or all nested ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def fields_at(
    model: type[BaseModel], path: tuple[str | int, ...], member: str = ""
) -> dict[str, FieldInfo]:
    """Return the fields of the models at `path` inside `model`, by name.

    Args:
        model: The options class to start at.
        path: Field names, mapping keys and list indices.
        member: For a union, select the member of this name, or the one with a field whose only
            value is this word; without a match, all members count.
    """
    types: list[Any] = [model]
    for part in path:
        types = [inner for kind in types for inner in _types_at(kind, part)]
    models = [found for kind in types for found in _models(kind)]
    named = [found for found in models if found.__name__ == member or _is_tagged(found, member)]
    return {name: field for found in named or models for name, field in found.model_fields.items()}


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop that ends a sentence, on one line.

    >>> first_sentence("Ranks, e.g. 8. Larger\\nis slower.")
    'Ranks, e.g. 8.'
    """
    line = " ".join(text.split())
    found = re.search(r"(?<!e\.g)(?<!i\.e)[.!?](?=\s+[A-Z`]|$)", line)
    return line[: found.end()] if found else line


def _is_tagged(model: type[BaseModel], word: str) -> bool:
    return any(get_args(field.annotation) == (word,) for field in model.model_fields.values())


def _members(kind: Any) -> Iterator[Any]:
    """Yield `kind` without annotations; of a union, each member."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that `kind` allows, as a single value or as entries of a list."""
    for member in _members(kind):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member
        elif get_origin(member) in (list, tuple, set, frozenset):
            for item in get_args(member):
                yield from _models(item)


def _types_at(kind: Any, part: str | int) -> Iterator[Any]:
    """Yield the declared types of `part` (field, key or index) of a value of type `kind`."""
    for member in _members(kind):
        origin, arguments = get_origin(member), get_args(member)
        if isinstance(member, type) and issubclass(member, BaseModel):
            if part in member.model_fields:
                yield member.model_fields[str(part)].annotation
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            yield arguments[-1]
        elif origin in (list, tuple, set, frozenset):
            if isinstance(part, int):
                yield from arguments
            else:  # one value in place of a list
                for item in arguments:
                    yield from _types_at(item, part)


def nested_models(model: type[BaseModel]) -> tuple[type[BaseModel], ...]:
    """Return every model that the fields of `model` use, at any depth, in order of first use."""
    found: dict[type[BaseModel], None] = {}

    def visit(kind: Any) -> None:
        for member in _members(kind):
            for argument in get_args(member):
                visit(argument)
            if isinstance(member, type) and issubclass(member, BaseModel) and member not in found:
                found[member] = None
                for field in member.model_fields.values():
                    visit(field.annotation)

    visit(model)
    return tuple(found)[1:]
