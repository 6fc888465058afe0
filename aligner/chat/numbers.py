"""How each setting of sampling is read from text, on the command line and in a conversation."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping


def _number(
    kind: Callable[[str], float], says: str, allowed: Callable[[float], bool]
) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {says}")
        return value

    return read


SETTINGS: Mapping[str, Callable[[str], float]] = {
    "temperature": _number(float, "a number from 0 to 100", lambda value: 0 <= value <= 100),
    "top_p": _number(float, "a number above 0 and up to 1", lambda value: 0 < value <= 1),
    "top_k": _number(int, "a whole number from 0", lambda value: value >= 0),
    "max_new_tokens": _number(int, "a whole number from 1", lambda value: value >= 1),
    "seed": _number(int, "a whole number from 0", lambda value: value >= 0),
}
"""How each setting is read; raises ArgumentTypeError for a value that makes no sense."""
