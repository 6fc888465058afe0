"""Entries mix by their weights or a temperature, in whole passes and a seeded remainder."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

from aligner.data.encoding.mixture import mixture_order, mixture_shares
from aligner.data.options import DataOptions


def mix(counts: list[int], weights: list[float | None] | None = None, **options: Any) -> Any:
    data = [{"path": "a", "weight": item} for item in weights or [None] * len(counts)]
    seed = options.pop("seed", 0)
    step = DataOptions(data=data, **options)  # type: ignore[arg-type]
    return mixture_order(counts, step.data, step, seed=seed)


def per_entry(taken: Any, counts: list[int]) -> list[int]:
    ends = numpy.cumsum(counts)
    found = Counter(numpy.searchsorted(ends, taken, side="right").tolist())
    return [found[entry] for entry in range(len(counts))]


def test_nothing_asked_for_is_all_rows_as_they_are() -> None:
    assert mix([3, 4]) is None
    assert mix([3, 4], mixture={"temperature": 1}).tolist() == list(range(7))


def test_weights_are_shares_of_as_many_rows_as_there_are() -> None:
    """Of 40 rows a quarter and three quarters are 10 and 30: the first gives all of its 10 rows."""
    taken = mix([10, 30], [1, 3])
    assert taken.tolist() == list(range(40))
    assert taken.dtype == numpy.int64
    assert per_entry(mix([10, 30], [3, 1]), [10, 30]) == [30, 10]
    assert per_entry(mix([10, 30], [3, None]), [10, 30]) == [30, 10]


def test_an_entry_that_gives_more_than_it_has_gives_all_before_any_again() -> None:
    taken = mix([4, 16], [3, 2]).tolist()
    assert len(taken) == 20
    times = Counter(taken)
    assert {times[row] for row in range(4)} == {3}
    taken = mix([4, 16], [7, 13]).tolist()
    assert sorted(Counter(taken)[row] for row in range(4)) == [1, 2, 2, 2]
    assert max(Counter(taken)[row] for row in range(4, 20)) == 1


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"rows": 100}, [50, 50]),
        ({"meet": "same"}, [20, 20]),
        ({"meet": "under"}, [10, 10]),
        ({"meet": "over"}, [30, 30]),
    ],
)
def test_the_rows_in_all_are_as_asked(options: Any, rows: list[int]) -> None:
    assert per_entry(mix([10, 30], [1, 1], mixture=options), [10, 30]) == rows


def test_a_temperature_flattens_sizes() -> None:
    """Square roots of 100 and 10000 are 10 and 100."""
    step = DataOptions(data=["a", "b"], mixture={"temperature": 2})  # type: ignore[arg-type]
    found = mixture_shares([100, 10000], step.data, step)
    assert found is not None
    numpy.testing.assert_allclose(found, [10 / 110, 100 / 110])
    step = DataOptions(data=["a", "b"], mixture={"temperature": 1e9})  # type: ignore[arg-type]
    found = mixture_shares([100, 10000], step.data, step)
    assert found is not None
    numpy.testing.assert_allclose(found, [0.5, 0.5], atol=1e-6)


def test_without_weights_rows_are_taken_by_the_entries_sizes() -> None:
    assert per_entry(mix([10, 30], mixture={"rows": 20}), [10, 30]) == [5, 15]


def test_shuffling_permutes_by_the_seed() -> None:
    item, same, other = (
        mix([50], shuffle=True),
        mix([50], shuffle=True),
        mix([50], shuffle=True, seed=1),
    )
    assert sorted(item.tolist()) == list(range(50)) != item.tolist()
    assert item.tolist() == same.tolist() != other.tolist()


def test_the_remainder_is_drawn_by_the_seed_in_the_rows_order() -> None:
    item, other = (mix([100], mixture={"rows": 30}, seed=seed).tolist() for seed in (0, 1))
    assert item == sorted(item) != other == sorted(other)


def test_an_entry_without_rows_is_left_out_of_the_mixture() -> None:
    assert per_entry(mix([0, 10], [5, 1]), [0, 10]) == [0, 10]
    assert mix([0, 0], [1, 1], shuffle=True).tolist() == []


@settings(max_examples=200, deadline=None)
@given(
    some.lists(some.tuples(some.integers(0, 40), some.floats(0.1, 10)), min_size=1, max_size=5),
    some.sampled_from([{"rows": 37}, {"meet": "under"}, {"meet": "over"}, {"meet": "same"}]),
)
def test_every_mixture_meets_its_shares_and_repeats_evenly(entries: Any, mixture: Any) -> None:
    counts, weights = [n for n, _ in entries], [w for _, w in entries]
    taken = mix(counts, weights, mixture=mixture)
    if not sum(counts):
        assert taken is None
        return
    given = per_entry(taken, counts)
    there = sum(weight for count, weight in entries if count)
    for (count, weight), number in zip(entries, given, strict=True):
        share = weight / there if count else 0
        assert abs(number - share * len(taken)) < 1 + 1e-6
        if mixture.get("meet") == "under":
            assert number <= count
        if mixture.get("meet") == "over":
            assert number >= count - 1
    times = Counter(taken.tolist())
    for start, count in zip(numpy.cumsum([0, *counts[:-1]]).tolist(), counts, strict=True):
        seen = [times[row] for row in range(start, start + count)]
        assert not seen or max(seen) - min(seen) <= 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mixture": {"rows": 3, "meet": "over"}}, "give rows or meet, not both"),
        (
            {"data": [{"path": "a", "weight": 2}], "mixture": {"temperature": 2}},
            "give weights or mixture.temperature, not both",
        ),
        (
            {"eval_data": {"path": "a", "weight": 2}},
            "weight applies to training data only, not to eval_data",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(options: Any, complaint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DataOptions(**{"data": "a", **options})
    assert refused.value.errors()[0]["msg"] == f"Value error, {complaint}"
