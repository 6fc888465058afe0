"""Bounds of a gate on a metric: `< 2.5`, `>= 0.9`, `0.1 .. 0.5`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_COMPARISON = re.compile(rf"\s*(<=|>=|<|>)\s*({_NUMBER})\s*", re.ASCII)
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*", re.ASCII)


@dataclass(frozen=True)
class Bound:
    """Comparisons that all have to be true.

    >>> Bound.parse("< 2.5").holds(2.4)
    True
    >>> Bound.parse("0.1 .. 0.5").holds(0.5), Bound.parse("> 0 and < 1").holds(0.0)
    (True, False)
    >>> str(Bound.parse("0.10..5e-1"))
    '0.1 .. 0.5'
    """

    comparisons: tuple[tuple[str, float], ...]
    """Pairs of an operator in `COMPARISONS` and a limit."""

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Parse `< x`, `<= x`, `> x`, `>= x`, `a .. b`, or several joined by `and`.

        Raises:
            ValueError: `text` is not a bound, or no number can meet it.
        """
        comparisons: list[tuple[str, float]] = []
        for part in re.split(r"\band\b", text):
            if comparison := _COMPARISON.fullmatch(part):
                comparisons.append((comparison[1], float(comparison[2])))
            elif range_ := _RANGE.fullmatch(part):
                comparisons += [(">=", float(range_[1])), ("<=", float(range_[2]))]
            else:
                raise ValueError("not a bound")
        if not all(math.isfinite(limit) for _, limit in comparisons):
            raise ValueError("not a bound")
        bound = cls(tuple(comparisons))
        if not bound._can_hold():
            raise ValueError("a bound that no number can meet")
        return bound

    def holds(self, value: float) -> bool:
        """Return True if `value` meets every comparison; NaN meets none."""
        return all(COMPARISONS[sign](value, limit) for sign, limit in self.comparisons)

    def _can_hold(self) -> bool:
        floor = max((x for sign, x in self.comparisons if sign[0] == ">"), default=-math.inf)
        ceiling = min((x for sign, x in self.comparisons if sign[0] == "<"), default=math.inf)
        return floor < ceiling or (floor == ceiling and self.holds(floor))

    def __str__(self) -> str:
        if [sign for sign, _ in self.comparisons] == [">=", "<="]:
            return " .. ".join(f"{limit!r}" for _, limit in self.comparisons)
        return " and ".join(f"{sign} {limit!r}" for sign, limit in self.comparisons)
