"""Read YAML text into values that remember where they were written."""

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
"""Levels of nesting; the deepest recipes use six."""
MOST_VALUES = 20_000
"""Values once aliases are written out, so that a kilobyte cannot become a gigabyte."""

Scalar: TypeAlias = str | int | float | bool | None
DataContext: TypeAlias = Callable[[int], str]
"""From a line, counted from 1, to how a complaint names it."""

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
    """A scalar, list or mapping, and where it is written: for an entry, the line of its key."""

    data: Scalar | list[Value] | dict[str, Value]
    where: str
    faulty: bool = False
    """It could not be read, which has been said; whoever reads on says no more about it."""

    def plain(self) -> Any:
        """The same without places."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data


def read_tree(
    text: str, *, context: DataContext, environment: Mapping[str, str], errors: list[AlignerError]
) -> Value:
    """The one document in `text`; what is wrong but leaves the rest readable goes to `errors`.

    Raises:
        RecipeError: The text is no YAML, or asks for more than data: tags, endless nesting.
    """
    try:
        loader = _Loader(text, context)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise malformed(error, text, context) from None
    if node is None:
        return Value(None, context(1))
    return _Builder(context, environment, errors).build(node, context(node.start_mark.line + 1))


def scalar(text: str) -> Scalar:
    """What an unquoted word means.

    >>> scalar("1e-5"), scalar("017"), scalar("yes"), scalar("true"), scalar("~")
    (1e-05, 17, 'yes', True, None)

    Raises:
        ValueError: It is a number too large to be one, or `.nan`.
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
            raise ValueError("is larger than any number here can be")
        return number
    if _INFINITE.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    if text in _NO_NUMBER:
        raise ValueError("is not a number")
    return text


def show(value: object) -> str:
    """A value as a complaint shows it: on one line, without control characters, and short.

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
    """`text`, with escapes for what a terminal would obey rather than show.

    >>> printable("sft.lr"), printable("a\\x1b[31m")
    ('sft.lr', 'a\\\\x1b[31m')
    """
    return text if text.isprintable() else ascii(text)[1:-1]


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser, stopped at tags and at nesting that no recipe needs."""

    def __init__(self, text: str, context: DataContext) -> None:
        super().__init__(text)
        self._place, self._depth = context, 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs
        assert event.start_mark is not None
        where = self._place(event.start_mark.line + 1)
        if (tag := getattr(event, "tag", None)) is not None:
            raise RecipeError(
                f"the tag {show(tag)} is not read: a recipe holds plain data",
                where=where,
                hint="leave the tag out; put the value in quotes if it begins with '!'",
            )
        if self._depth == DEEPEST:
            raise RecipeError(f"nested more than {DEEPEST} levels deep", where=where)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    """From PyYAML's nodes to values, counting them as aliases are followed."""

    def __init__(
        self, context: DataContext, environment: Mapping[str, str], errors: list[AlignerError]
    ) -> None:
        self._place, self._environment, self._faults = context, environment, errors
        self._count = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node, where: str) -> Value:
        self._count += 1
        if self._count > MOST_VALUES:
            raise RecipeError(
                f"more than {MOST_VALUES} values once its aliases are written out", where=where
            )
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        if id(node) in self._open:
            raise RecipeError("an alias stands inside the value it names", where=where)
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
            self._faults.append(error)
        except ValueError as error:
            self._faults.append(RecipeError(f"{show(node.value)} {error}", where=where))
        else:
            return Value(value, where)
        return Value(None, where, faulty=True)

    def _list(self, node: yaml.Node) -> list[Value]:
        return [self.build(item, self._line(item)) for item in node.value]

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Value]:
        entries: dict[str, Value] = {}
        for key, value in node.value:
            where = self._line(key)
            built = self.build(value, where)
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                self._faults.append(RecipeError("a key must be a word", where=where))
            elif key.value == "<<" and not key.style:
                self._faults.append(
                    RecipeError(
                        "the merge key '<<' is not read",
                        where=where,
                        hint="repeat one value by an alias, or a whole recipe by 'extends:'",
                    )
                )
            elif key.value in entries:
                self._faults.append(
                    RecipeError(
                        f"{show(key.value)} is written twice",
                        where=where,
                        hint=f"the first is at {entries[key.value].where}; keep one of them",
                    )
                )
            else:
                entries[key.value] = built
        return entries

    def _line(self, node: yaml.Node) -> str:
        return self._place(node.start_mark.line + 1)
