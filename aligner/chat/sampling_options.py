"""Parsers of the sampling options, for the command line and for `/set` in a chat."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping


def _number(
    kind: Callable[[str], float], expected: str, allowed: Callable[[float], bool]
) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return parse


SAMPLING_OPTIONS: Mapping[str, Callable[[str], float]] = {
    "temperature": _number(float, "a number from 0 to 100", lambda value: 0 <= value <= 100),
    "top_p": _number(float, "a number above 0 and up to 1", lambda value: 0 < value <= 1),
    "top_k": _number(int, "an integer of 0 or more", lambda value: value >= 0),
    "max_new_tokens": _number(int, "an integer of 1 or more", lambda value: value >= 1),
    "seed": _number(int, "an integer of 0 or more", lambda value: value >= 0),
}
"""Parser of each option. It raises ArgumentTypeError for a value out of range."""
