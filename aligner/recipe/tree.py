"""Parse YAML into values with their file and line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from aligner.errors import AlignerError, RecipeError
from aligner.recipe.malformed import malformed
from aligner.recipe.variables import expand

DEEPEST = 32
"""Levels of nesting; the deepest bundled recipe uses six."""
MOST_VALUES = 20_000
"""Number of values after aliases are expanded, so that a kilobyte cannot become a gigabyte."""

Scalar: TypeAlias = str | int | float | bool | None
LocationOf: TypeAlias = Callable[[int], str]
"""Function from a line number, counted from 1, to the location in error messages."""

# The core schema of YAML 1.2: `1e-5` is a number; `yes`, `on`, `017:30` and dates are text.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NO_NUMBER = frozenset({".nan", ".NaN", ".NAN"})


@dataclass(frozen=True)
class Value:
    """A scalar, list or mapping with its location: for a mapping entry, the line of the key."""

    data: Scalar | list[Value] | dict[str, Value]
    where: str
    invalid: bool = False
    """True if it could not be read; the error is reported already."""

    def plain(self) -> Any:
        """Return the value without locations."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data


def read_tree(
    text: str,
    *,
    location_of: LocationOf,
    environment: Mapping[str, str],
    errors: list[AlignerError],
) -> Value:
    """Return the only document in `text`; add errors that leave the rest readable to `errors`.

    Raises:
        RecipeError: The text is not YAML, or uses tags or endless nesting.
    """
    try:
        loader = _Loader(text, location_of)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise malformed(error, text, location_of) from None
    if node is None:
        return Value(None, location_of(1))
    return _Builder(location_of, environment, errors).build(
        node, location_of(node.start_mark.line + 1)
    )


def scalar(text: str) -> Scalar:
    """Return the value of an unquoted word.

    >>> scalar("1e-5"), scalar("017"), scalar("yes"), scalar("true"), scalar("~")
    (1e-05, 17, 'yes', True, None)

    Raises:
        ValueError: It is a number that is too large, or `.nan`.
    """
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _WHOLE.fullmatch(text):
        if len(text) > 100:
            raise ValueError("has more than 100 digits")
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _FLOAT.fullmatch(text):
        if math.isinf(number := float(text)):
            raise ValueError("is too large for a number")
        return number
    if _INFINITE.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    if text in _NO_NUMBER:
        raise ValueError("is not a number")
    return text


def show(value: object) -> str:
    """Return a value for error messages: one short line without control characters.

    >>> show("fast"), show(True), show([1, 2]), show(None)
    ("'fast'", 'true', 'a list', 'empty')
    """
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(str(value))} characters)"


def printable(text: str) -> str:
    """Return `text` with control characters escaped.

    >>> printable("sft.lr"), printable("a\\x1b[31m")
    ('sft.lr', 'a\\\\x1b[31m')
    """
    return text if text.isprintable() else ascii(text)[1:-1]


class _Loader(yaml.SafeLoader):
    """PyYAML's parser without tags and with limited nesting."""

    def __init__(self, text: str, location_of: LocationOf) -> None:
        super().__init__(text)
        self._location_of, self._depth = location_of, 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs
        assert event.start_mark is not None
        where = self._location_of(event.start_mark.line + 1)
        if (tag := getattr(event, "tag", None)) is not None:
            raise RecipeError(
                f"the tag {show(tag)} is not supported: a recipe contains plain data",
                where=where,
                hint="remove the tag; put the value in quotes if it begins with '!'",
            )
        if self._depth == DEEPEST:
            raise RecipeError(f"nested more than {DEEPEST} levels deep", where=where)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    """Converter from PyYAML's nodes to values, with a limit on their number."""

    def __init__(
        self, location_of: LocationOf, environment: Mapping[str, str], errors: list[AlignerError]
    ) -> None:
        self._location_of, self._environment, self._errors = location_of, environment, errors
        self._count = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node, where: str) -> Value:
        self._count += 1
        if self._count > MOST_VALUES:
            raise RecipeError(
                f"more than {MOST_VALUES} values after its aliases are expanded", where=where
            )
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        if id(node) in self._open:
            raise RecipeError("an alias refers to the value that contains it", where=where)
        self._open.add(id(node))
        data = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._list(node)
        self._open.remove(id(node))
        return Value(data, where)

    def _scalar(self, node: yaml.ScalarNode, where: str) -> Value:
        try:
            value = node.value if node.style else scalar(node.value)
            if isinstance(value, str):
                value = expand(value, self._environment, where=where)
        except RecipeError as error:
            self._errors.append(error)
        except ValueError as error:
            self._errors.append(RecipeError(f"{show(node.value)} {error}", where=where))
        else:
            return Value(value, where)
        return Value(None, where, invalid=True)

    def _list(self, node: yaml.Node) -> list[Value]:
        return [self.build(item, self._line(item)) for item in node.value]

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Value]:
        entries: dict[str, Value] = {}
        for key, value in node.value:
            where = self._line(key)
            built = self.build(value, where)
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                self._errors.append(RecipeError("a key must be a word", where=where))
            elif key.value == "<<" and not key.style:
                self._errors.append(
                    RecipeError(
                        "the merge key '<<' is not supported",
                        where=where,
                        hint="use an alias for one value, 'extends:' for a whole recipe",
                    )
                )
            elif key.value in entries:
                self._errors.append(
                    RecipeError(
                        f"the key {show(key.value)} is repeated",
                        where=where,
                        hint=f"the first is at {entries[key.value].where}; keep one of them",
                    )
                )
            else:
                entries[key.value] = built
        return entries

    def _line(self, node: yaml.Node) -> str:
        return self._location_of(node.start_mark.line + 1)
