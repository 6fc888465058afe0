"""Validate options with the model that declares them, and report errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aligner.errors import AlignerError, ChainError, ErrorGroup, did_you_mean
from aligner.options.fields import fields_at, first_sentence
from aligner.options.row_operations import Operations, with_operations
from aligner.recipe import StepSpec
from aligner.recipe.tree import printable, show
from aligner.stage import Stage, StageOptions

M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]

# The kind of value that is expected where pydantic reports an error of this type.
_KINDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "a mapping"),
    **dict.fromkeys(("model_attributes_type", "dataclass_type"), "a mapping"),
    "string_type": "text",
    "path_type": "a path",
    "none_required": "null",
    "finite_number": "a finite number",
    "int_parsing_size": "a whole number of at most 4300 digits",
}
# Messages about values out of bounds; the names in braces are pydantic's, except `shown`.
_BOUNDS = {
    "greater_than": "is {shown}, and must be greater than {gt}",
    "greater_than_equal": "is {shown}, and must be at least {ge}",
    "less_than": "is {shown}, and must be less than {lt}",
    "less_than_equal": "is {shown}, and must be at most {le}",
    "multiple_of": "is {shown}, and must be a multiple of {multiple_of}",
    "too_short": "has {actual_length} entries, and must have at least {min_length}",
    "too_long": "has {actual_length} entries, and must have at most {max_length}",
    "string_too_short": "is {shown}, and must have at least {min_length} characters",
    "string_too_long": "is {shown}, and must have at most {max_length} characters",
    "string_pattern_mismatch": "is {shown}, and must match the pattern {pattern}",
}

_TAGS = {"union_tag_invalid": "literal_error", "union_tag_not_found": "missing"}


def validate(step: StepSpec, stage: type[Stage[Any]], operations: Operations) -> StageOptions:
    """Return the options of `step` as an instance of the stage's options class.

    Args:
        step: The step, as the recipe has it.
        stage: The stage that it names.
        operations: Row operations that the options may name, `Registry.row_operations`.

    Raises:
        ChainError: One option is invalid; the location is that of the option.
        ErrorGroup: Several options are invalid.
    """
    model = with_operations(stage.Options, operations)
    return check_options(step.options, model, what=f"stage {stage.name!r}", where=step.at)


def check_options(
    options: Mapping[str, Any], model: type[M], *, what: str, where: Callable[[str], str]
) -> M:
    """Return `options` as an instance of `model`, the options of a stage, reward function or data source.

    Args:
        options: The values by name.
        model: The class to validate them with.
        what: The owner of the options, as error messages name it: `stage 'x'`.
        where: Function from a dotted path, `adapter.r` or `data.0.path`, to `file:line`. It is
            called for missing options as well.

    Raises:
        ChainError: One option is invalid.
        ErrorGroup: Several options are invalid.
    """
    messages = _Messages(model, what, where)
    try:
        validated = model.model_validate(dict(options))
    except ValidationError as error:
        issues = _relevant([_Issue.of(raw, options) for raw in error.errors(include_url=False)])
        ErrorGroup.raise_if_any(
            [
                messages.error([issue for issue in issues if issue.path == path])
                for path in dict.fromkeys(issue.path for issue in issues)
            ]
        )
        raise AssertionError("a validation error has issues") from error
    ErrorGroup.raise_if_any(
        [
            messages.wrong_kind(path, raw, "a number")
            for path, raw in _booleans_read_as_numbers(dict(options), validated)
        ]
    )
    return validated


@dataclass(frozen=True)
class _Issue:
    """One of pydantic's errors, its location split into the path in the recipe and a union member."""

    type: str
    path: Path
    member: str
    """The union member that was tried; empty outside unions."""
    depth: int
    """Length of the path up to the union."""
    value: Any
    message: str
    context: Mapping[str, Any]

    @classmethod
    def of(cls, error: Mapping[str, Any], options: Mapping[str, Any]) -> _Issue:
        loc, type_ = error["loc"], error["type"]
        path: list[str | int] = []
        member, depth = "", 0
        value: Any = options
        for number, part in enumerate(loc):
            if _contains(value, part):
                value = value[part]
            elif not (type_ == "missing" and number == len(loc) - 1):
                # Added by pydantic: the name of a union member, or 0 where one value is read as a list.
                if isinstance(part, str) and not member:
                    member, depth = part, len(path)
                continue
            path.append(part)
        context, value = error.get("ctx", {}), error["input"]
        if type_.startswith("union_tag"):  # the error is about the entry that selects the member
            path.append(context["discriminator"].strip("'"))
            type_, value = _TAGS[type_], context.get("tag")
        return cls(type_, tuple(path), member, depth, value, error["msg"], context)


def _contains(value: Any, part: str | int) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _relevant(issues: list[_Issue]) -> list[_Issue]:
    """Drop issues of the other union members where one member nearly matches.

    A member nearly matches if its issues concern entries of the value, not the whole value; of
    several such members, the one with the fewest issues counts.
    """
    tried: dict[Path, dict[str, list[_Issue]]] = {}
    for issue in issues:
        if issue.member:
            members = tried.setdefault(issue.path[: issue.depth], {})
            members.setdefault(issue.member, []).append(issue)
    dropped: set[int] = set()
    for members in tried.values():
        near = [found for found in members.values() if all(i.path[i.depth :] for i in found)]
        if near:
            best = min(near, key=len)
            dropped |= {id(i) for found in members.values() if found is not best for i in found}
    # pydantic counts valid entries only: next to an invalid entry, "too short" only repeats it.
    dropped |= {
        id(short)
        for short in issues
        if short.type == "too_short"
        and any(
            issue is not short and issue.path[: len(short.path)] == short.path for issue in issues
        )
    }
    return [issue for issue in issues if id(issue) not in dropped]


@dataclass(frozen=True)
class _Messages:
    """Error messages about the options of one owner."""

    model: type[BaseModel]
    what: str
    where: Callable[[str], str]

    def error(self, issues: list[_Issue]) -> AlignerError:
        """Return one error for all issues of one option."""
        expected = [_expected_kind(issue) for issue in issues]
        if all(expected):
            first = issues[0]
            kinds = " or ".join(dict.fromkeys(expected))
            return self.wrong_kind(first.path, first.value, kinds, words=_allowed_words(issues))
        issue = next(issue for issue, kind in zip(issues, expected, strict=True) if not kind)
        option = ".".join(map(str, issue.path))
        name = printable(option) or self.what
        hint = self._documentation(issue.path)
        if issue.type == "extra_forbidden":
            text = f"{self.what} has no option {option!r}"
            known = fields_at(self.model, issue.path[:-1], issue.member)
            hint = did_you_mean(str(issue.path[-1]), known)
        elif issue.type == "missing":
            text = f"{self.what} needs option {option!r}"
        elif issue.type in _BOUNDS:
            text = f"{name} {_BOUNDS[issue.type].format(**issue.context, shown=show(issue.value))}"
        elif issue.type in ("value_error", "assertion_error"):
            text, hint = f"{name}: {issue.context.get('error', issue.message)}", ""
        else:
            text = f"{name}: {issue.message} (found {show(issue.value)})"
        return ChainError(text, where=self.where(option), hint=hint)

    def wrong_kind(
        self, path: Path, value: Any, expected: str, *, words: tuple[str, ...] = ()
    ) -> AlignerError:
        """Return the error for a `value` of another kind than `expected`; `words` are for a hint."""
        option = ".".join(map(str, path))
        hint = self._documentation(path)
        if expected == "text" and isinstance(value, bool | int | float):
            hint = "put it in quotes"
        elif isinstance(value, str) and (near := did_you_mean(value, words)).startswith("did"):
            hint = near
        text = f"{printable(option) or self.what} is {show(value)}, not {expected}"
        return ChainError(text, where=self.where(option), hint=hint)

    def _documentation(self, path: Path) -> str:
        """Return the first sentence of an option's documentation, as a hint."""
        field = fields_at(self.model, path[:-1]).get(str(path[-1])) if path else None
        if field is None or not field.description:
            return ""
        return f"{path[-1]}: {first_sentence(field.description)}"


def _expected_kind(issue: _Issue) -> str:
    """Return the expected kind of value; empty if the issue is not about the kind."""
    if issue.type in ("literal_error", "enum"):
        context = issue.context
        return str(context["expected"] if "expected" in context else context["expected_tags"])
    return _KINDS.get(issue.type, "")


def _allowed_words(issues: list[_Issue]) -> tuple[str, ...]:
    expected = " ".join(filter(None, map(_expected_kind, issues)))
    return tuple(re.findall(r"'([^']*)'", expected))


def _booleans_read_as_numbers(
    raw: Any, validated: Any, path: Path = ()
) -> Iterator[tuple[Path, bool]]:
    """Yield each `true` or `false` that pydantic has read as 1 or 0."""
    if isinstance(raw, bool):
        if isinstance(validated, int | float) and not isinstance(validated, bool):
            yield path, raw
    elif isinstance(raw, Mapping):
        if isinstance(validated, tuple | list) and len(validated) == 1:  # one value read as a list
            validated = validated[0]
        by_key = isinstance(validated, Mapping)
        for key, value in raw.items():
            inner = validated.get(key) if by_key else getattr(validated, key, None)
            yield from _booleans_read_as_numbers(value, inner, (*path, key))
    elif isinstance(raw, list | tuple) and isinstance(validated, list | tuple):
        for number, (value, inner) in enumerate(zip(raw, validated, strict=False)):
            yield from _booleans_read_as_numbers(value, inner, (*path, number))
