"""Bounds of a gate are met by the right numbers."""

from __future__ import annotations

import pytest

from aligner.recipe import Bound


@pytest.mark.parametrize(
    ("written", "shown", "inside", "outside"),
    [
        ("< 2.5", "< 2.5", 2.49, 2.5),
        ("<= 2.5", "<= 2.5", 2.5, 2.51),
        (">0.9", "> 0.9", 0.91, 0.9),
        (">= 9e-1", ">= 0.9", 0.9, 0.89),
        ("0.1 .. 0.5", "0.1 .. 0.5", 0.5, 0.51),
        ("1..2", "1.0 .. 2.0", 1.0, 0.99),
        ("> -1 and < 1", "> -1.0 and < 1.0", 0.0, 1.0),
        ("1 .. 1", "1.0 .. 1.0", 1.0, 1.01),
    ],
)
def test_a_bound_holds_inside_and_not_outside(
    written: str, shown: str, inside: float, outside: float
) -> None:
    bound = Bound.parse(written)
    assert (str(bound), bound.holds(inside), bound.holds(outside)) == (shown, True, False)
    assert Bound.parse(str(bound)) == bound


def test_nan_meets_no_bound() -> None:
    assert not Bound.parse("<= 1e300").holds(float("nan"))


@pytest.mark.parametrize(
    "text",
    ["", "2.5", "< x", "== 2", "< 1e999", "< nan", "< 1 or > 2", "1 .. ", "> 1 and", "<\u0663"],
)
def test_text_that_is_not_a_bound_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a bound$"):
        Bound.parse(text)


@pytest.mark.parametrize("text", ["2 .. 1", "> 1 and < 1", "> 1 and <= 1", ">= 2 and < 1"])
def test_a_bound_that_no_number_can_meet_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a bound that no number can meet$"):
        Bound.parse(text)
