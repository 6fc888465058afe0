"""Give options classes a field for each installed row operation.

`DataSpec` and `DataOptions` declare which scopes of operations they accept, and keep the values of options
that they do not declare themselves as they are. `with_operations` returns the same class with a typed field
for each operation, so that validation, documentation and JSON Schema treat these like any other option.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import UnionType, new_class
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aligner.registry import ExtensionOptions, InstalledOperation, RowOperation
from aligner.stage import StageOptions

M = TypeVar("M", bound=BaseModel)
Operations = Mapping[str, InstalledOperation]


def with_operations(model: type[M], operations: Operations) -> type[M]:
    """Return `model` with fields for `operations`, in it and in the models that its fields hold.

    A model in which no operation may be named is returned as it is.
    """
    return _extension(tuple(sorted(operations.items(), key=_position))).model(model)


def _position(item: tuple[str, InstalledOperation]) -> tuple[int, str]:
    name, installed = item
    return installed.operation.order, name


@lru_cache(maxsize=8)  # the same plugins make the same classes, which all stages share
def _extension(operations: tuple[tuple[str, InstalledOperation], ...]) -> _Extension:
    return _Extension(dict(operations))


@dataclass
class _Extension:
    """The classes that one set of operations has extended so far."""

    operations: Operations
    extended: dict[type[BaseModel], type[Any]] = field(default_factory=dict)

    def model(self, model: type[M]) -> type[M]:
        if model in self.extended:
            return self.extended[model]
        self.extended[model] = (
            model  # ends the recursion where an operation's own options contain data
        )
        nested = {
            name: extended
            for name, declared in model.model_fields.items()
            if (extended := self._field(declared)) is not declared
        }
        scopes = model.operation_scopes if issubclass(model, StageOptions) else frozenset()
        own = {
            name: installed
            for name, installed in self.operations.items()
            if installed.operation.scope in scopes
        }
        if nested or scopes:
            self.extended[model] = self._subclass(model, nested, own)
        return self.extended[model]

    def _subclass(self, model: type[M], nested: Mapping[str, Any], own: Operations) -> type[M]:
        namespace: dict[str, Any] = {
            "__module__": model.__module__,
            "__doc__": model.__doc__,
            "__annotations__": {
                name: self._annotation(installed.operation) for name, installed in own.items()
            },
            # The documentation of fields is known; there is no source to read it from.
            "model_config": ConfigDict(extra="forbid", use_attribute_docstrings=False),
        }
        for name, installed in own.items():
            about = " ".join((inspect.getdoc(installed.operation) or "").split())
            # Operations determine a step by the rows that they yield, which are hashed.
            namespace[name] = Field(
                None, description=about, json_schema_extra={"determines": False}
            )
        made: type[M] = new_class(model.__name__, (model,), {}, lambda body: body.update(namespace))
        if own and issubclass(made, StageOptions):
            made.operations = own
        if nested:
            made.__pydantic_fields__.update(nested)
            made.model_rebuild(force=True)
        return made

    def _annotation(self, operation: type[RowOperation]) -> Any:
        options = self.model(operation.Options)
        written: Any = bool | options | None
        if options.shorthand:
            short = options.model_fields[options.shorthand]
            kind = (
                Annotated[short.annotation, *short.metadata] if short.metadata else short.annotation
            )
            written = bool | kind | options | None
        convert = BeforeValidator(
            lambda value: expand(value, options), json_schema_input_type=written
        )
        return Annotated[options | None, convert]

    def _field(self, declared: Any) -> Any:
        annotation = self._type(declared.annotation)
        metadata = [self._metadata(item) for item in declared.metadata]
        if annotation is declared.annotation and all(
            new is old for new, old in zip(metadata, declared.metadata, strict=True)
        ):
            return declared
        extended = copy(declared)
        extended.annotation, extended.metadata = annotation, metadata
        return extended

    def _metadata(self, item: Any) -> Any:
        if not isinstance(item, BeforeValidator):
            return item
        kind = self._type(item.json_schema_input_type)
        same = kind is item.json_schema_input_type
        return item if same else replace(item, json_schema_input_type=kind)

    def _type(self, kind: Any) -> Any:
        """Return `kind` with its models extended; `kind` itself if none is."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is None:
            is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
            return self.model(kind) if is_model else kind
        if origin is Annotated:
            new: tuple[Any, ...] = (self._type(arguments[0]), *map(self._metadata, arguments[1:]))
        else:
            new = tuple(map(self._type, arguments))
        if all(extended is old for extended, old in zip(new, arguments, strict=True)):
            return kind
        if origin in (Union, UnionType):
            return Union[new]  # noqa: UP007  # from a tuple of members
        return Annotated[new] if origin is Annotated else origin[new]


def expand(value: Any, options: type[ExtensionOptions]) -> Any:
    """Return the options that a boolean or a short form means: `true`, `false`, `near`, `[email]`."""
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, Mapping | BaseModel) or not options.shorthand:
        return value
    return {options.shorthand: value}
