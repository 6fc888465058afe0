"""Find the fields that a dotted path leads to in a declared model."""

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
    """The fields of whatever models stand at `path` below `model`, by name.

    Args:
        path: Names of fields, keys of mappings and numbers in lists.
        member: Where a union stands there, only its member of this name, or with a field that
            can hold nothing but this word; all of them if there is none.
    """
    types: list[Any] = [model]
    for part in path:
        types = [below for one in types for below in _below(one, part)]
    models = [one for kind in types for one in _models(kind)]
    named = [one for one in models if one.__name__ == member or _is_tagged(one, member)]
    return {name: field for one in named or models for name, field in one.model_fields.items()}


def first_sentence(text: str) -> str:
    """Up to and with the first full stop that ends a sentence, on one line.

    >>> first_sentence("Ranks, e.g. 8. Larger\\nis slower.")
    'Ranks, e.g. 8.'
    """
    line = " ".join(text.split())
    found = re.search(r"(?<!e\.g)(?<!i\.e)[.!?](?=\s+[A-Z`]|$)", line)
    return line[: found.end()] if found else line


def _is_tagged(model: type[BaseModel], word: str) -> bool:
    return any(get_args(field.annotation) == (word,) for field in model.model_fields.values())


def _members(kind: Any) -> Iterator[Any]:
    """`kind` without annotations, each member of a union by itself."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _members(one)
    else:
        yield kind


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that may stand where `kind` is declared, alone or as the entries of a list."""
    for one in _members(kind):
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one
        elif get_origin(one) in (list, tuple, set, frozenset):
            for item in get_args(one):
                yield from _models(item)


def _below(kind: Any, part: str | int) -> Iterator[Any]:
    for one in _members(kind):
        origin, arguments = get_origin(one), get_args(one)
        if isinstance(one, type) and issubclass(one, BaseModel):
            if part in one.model_fields:
                yield one.model_fields[str(part)].annotation
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            yield arguments[-1]
        elif origin in (list, tuple, set, frozenset):
            if isinstance(part, int):
                yield from arguments
            else:  # one value that stands for a list
                for item in arguments:
                    yield from _below(item, part)


def models_below(model: type[BaseModel]) -> tuple[type[BaseModel], ...]:
    """Every model that the fields of `model` use, at any depth, each once, in order of use."""
    found: dict[type[BaseModel], None] = {}

    def look(kind: Any) -> None:
        for one in _members(kind):
            for argument in get_args(one):
                look(argument)
            if isinstance(one, type) and issubclass(one, BaseModel) and one not in found:
                found[one] = None
                for field in one.model_fields.values():
                    look(field.annotation)

    look(model)
    return tuple(found)[1:]
