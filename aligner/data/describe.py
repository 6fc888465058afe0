"""Describe values of user data in messages: short, on one line, safe on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def describe_value(value: Any) -> str:
    """Describe a value in an error: its kind, and a piece of it that is safe on a terminal.

    >>> describe_value(3), describe_value(None), describe_value("a" * 90)[:22]
    ('the number 3', 'null', "the text 'aaaaaaaaaaaa")
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}" if value.strip() else "an empty text"
    if isinstance(value, Mapping):
        return (
            f"an object with {', '.join(repr(str(k)[:20]) for k in list(value)[:5]) or 'nothing'}"
        )
    return f"a list of {len(value)}" if isinstance(value, Sequence) else type(value).__name__


def printable_name(name: object) -> str:
    r"""A name out of somebody's data as it may stand in a message: short, on one line, no escapes.

    >>> printable_name("a" * 99)[-3:], printable_name("x\x1b[31m")
    ('aa…', 'x\\x1b[31m')
    """
    whole = str(name)
    short = whole if len(whole) <= 40 else whole[:40] + "…"
    return short if short.isprintable() else repr(short)[1:-1]
