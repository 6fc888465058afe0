"""Hold options against the model that declares them, and complain in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aligner.errors import AlignerError, ChainError, ErrorGroup, did_you_mean
from aligner.fields import fields_at, first_sentence
from aligner.recipe import StepSpec
from aligner.recipe.tree import printable, show
from aligner.stage import Stage, StageOptions

M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]

# What each of pydantic's complaints about a kind of value would have liked instead.
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
    "int_parsing_size": "a whole number of a size that can be",
}
# And about a value that is out of bounds; the names in braces are pydantic's, but for `shown`.
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


def validate(step: StepSpec, stage: type[Stage[Any]]) -> StageOptions:
    """The options of `step` as the config of `stage`.

    Raises:
        ChainError: One option is wrong; it says where it is written.
        ErrorGroup: Several are.
    """
    return check_options(step.options, stage.Options, what=f"stage {stage.name!r}", where=step.at)


def check_options(
    options: Mapping[str, Any], model: type[M], *, what: str, where: Callable[[str], str]
) -> M:
    """`options` as a `model`, whatever declares it: a stage, a reward function, a data source.

    Args:
        what: Whose options they are, as complaints name it: `stage 'x'`.
        where: From a dotted path, `adapter.r` or `data.0.path`, to where it is written.
            It is asked about options that are missing as well.

    Raises:
        ChainError: One option is wrong.
        ErrorGroup: Several are.
    """
    teller = _Teller(model, what, where)
    try:
        made = model.model_validate(dict(options))
    except ValidationError as error:
        complaints = [_Complaint.of(one, options) for one in error.errors(include_url=False)]
        likely = _likeliest(complaints)
        errors = [
            teller.error([one for one in likely if one.path == path])
            for path in dict.fromkeys(one.path for one in likely)
        ]
    else:
        errors = [
            teller.wrong_kind(path, raw, "a number")
            for path, raw in _switches_taken_for_numbers(dict(options), made)
        ]
        if not errors:
            return made
    together = ErrorGroup(errors)
    raise together.errors[0] if len(together.errors) == 1 else together


@dataclass(frozen=True)
class _Complaint:
    """One of pydantic's errors, its location split into what the recipe says and union members."""

    kind: str
    path: Path
    member: str
    """The member of a union that was tried, where there is one."""
    depth: int
    """Length of the path up to the union."""
    value: Any
    says: str
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, error: Mapping[str, Any], options: Mapping[str, Any]) -> _Complaint:
        loc, kind = error["loc"], error["type"]
        path: list[str | int] = []
        member, depth = "", 0
        here: Any = options
        for number, part in enumerate(loc):
            if _holds(here, part):
                here = here[part]
            elif not (kind == "missing" and number == len(loc) - 1):
                # pydantic's own: a union member's name, or 0 where one value stands for a list
                if isinstance(part, str) and not member:
                    member, depth = part, len(path)
                continue
            path.append(part)
        facts, value = error.get("ctx", {}), error["input"]
        if kind.startswith("union_tag"):  # about the entry that says which member is meant
            path.append(facts["discriminator"].strip("'"))
            kind, value = _TAGS[kind], facts.get("tag")
        return cls(kind, tuple(path), member, depth, value, error["msg"], facts)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _likeliest(complaints: list[_Complaint]) -> list[_Complaint]:
    """Without what other members of a union say where one member nearly fits.

    A member nearly fits where its complaints are about entries of the value, not all of it;
    of several, the one with the fewest.
    """
    tried: dict[Path, dict[str, list[_Complaint]]] = {}
    for one in complaints:
        if one.member:
            tried.setdefault(one.path[: one.depth], {}).setdefault(one.member, []).append(one)
    dropped: set[int] = set()
    for members in tried.values():
        near = [found for found in members.values() if all(c.path[c.depth :] for c in found)]
        if near:
            best = min(near, key=len)
            dropped |= {id(c) for found in members.values() if found is not best for c in found}
    # pydantic counts the entries that fit: with a bad one among them, "too short" says nothing new.
    dropped |= {
        id(short)
        for short in complaints
        if short.kind == "too_short"
        and any(
            one is not short and one.path[: len(short.path)] == short.path for one in complaints
        )
    }
    return [one for one in complaints if id(one) not in dropped]


@dataclass(frozen=True)
class _Teller:
    """Puts complaints about the options of one thing into words."""

    model: type[BaseModel]
    what: str
    where: Callable[[str], str]

    def error(self, complaints: list[_Complaint]) -> AlignerError:
        """What to say about one option, given all that pydantic says of it."""
        wanted = [_wanted(one) for one in complaints]
        if all(wanted):
            first = complaints[0]
            kinds = " or ".join(dict.fromkeys(wanted))
            return self.wrong_kind(first.path, first.value, kinds, words=_words(complaints))
        one = next(one for one, kind in zip(complaints, wanted, strict=True) if not kind)
        option = ".".join(map(str, one.path))
        named = printable(option) or self.what
        hint = self._documentation(one.path)
        if one.kind == "extra_forbidden":
            said = f"{self.what} has no option {option!r}"
            known = fields_at(self.model, one.path[:-1], one.member)
            hint = did_you_mean(str(one.path[-1]), known)
        elif one.kind == "missing":
            said = f"{self.what} needs option {option!r}"
        elif one.kind in _BOUNDS:
            said = f"{named} {_BOUNDS[one.kind].format(**one.facts, shown=show(one.value))}"
        elif one.kind in ("value_error", "assertion_error"):
            said, hint = f"{named}: {one.facts.get('error', one.says)}", ""
        else:
            said = f"{named}: {one.says} (found {show(one.value)})"
        return ChainError(said, where=self.where(option), hint=hint)

    def wrong_kind(
        self, path: Path, value: Any, wanted: str, *, words: tuple[str, ...] = ()
    ) -> AlignerError:
        """The complaint about a `value` that is not what is `wanted`, say one of `words`."""
        option = ".".join(map(str, path))
        hint = self._documentation(path)
        if wanted == "text" and isinstance(value, bool | int | float):
            hint = "put it in quotes"
        elif isinstance(value, str) and (near := did_you_mean(value, words)).startswith("did"):
            hint = near
        said = f"{printable(option) or self.what} is {show(value)}, not {wanted}"
        return ChainError(said, where=self.where(option), hint=hint)

    def _documentation(self, path: Path) -> str:
        """The first sentence of an option's documentation, as a hint."""
        field = fields_at(self.model, path[:-1]).get(str(path[-1])) if path else None
        if field is None or not field.description:
            return ""
        return f"{path[-1]}: {first_sentence(field.description)}"


def _wanted(complaint: _Complaint) -> str:
    """What would have been right, where the complaint is about the kind of value."""
    if complaint.kind in ("literal_error", "enum"):
        facts = complaint.facts
        return str(facts["expected"] if "expected" in facts else facts["expected_tags"])
    return _KINDS.get(complaint.kind, "")


def _words(complaints: list[_Complaint]) -> tuple[str, ...]:
    expected = " ".join(filter(None, map(_wanted, complaints)))
    return tuple(re.findall(r"'([^']*)'", expected))


def _switches_taken_for_numbers(
    raw: Any, made: Any, path: Path = ()
) -> Iterator[tuple[Path, bool]]:
    """Each `true` or `false` that pydantic has read as 1 or 0."""
    if isinstance(raw, bool):
        if isinstance(made, int | float) and not isinstance(made, bool):
            yield path, raw
    elif isinstance(raw, Mapping):
        if isinstance(made, tuple | list) and len(made) == 1:  # one value that stands for a list
            made = made[0]
        for key, value in raw.items():
            below = made.get(key) if isinstance(made, Mapping) else getattr(made, key, None)
            yield from _switches_taken_for_numbers(value, below, (*path, key))
    elif isinstance(raw, list | tuple) and isinstance(made, list | tuple):
        for number, (value, below) in enumerate(zip(raw, made, strict=False)):
            yield from _switches_taken_for_numbers(value, below, (*path, number))
