"""Duplicates of earlier rows, exact or near, are dropped and named with the earlier row."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import aligner_curation
from aligner.data.options import DataOptions
from aligner.data.reading.load import RowStream
from aligner.data.reading.operations import with_named_operations
from aligner.data.rows import ClassifiedText, Conversation, LabeledCompletion, Row, ScoredCompletion
from aligner.host import host_of
from aligner_curation.duplicates import shingles
from aligner_curation.options import Deduplicate
from tests.data.conftest import Here
from tests.data.small_rows import combine, pair, plain, talk, talks, text, turns

REGISTRY = host_of([aligner_curation]).registry()


def origins(rows: Iterable[Row]) -> list[str]:
    return [row.origin for row in rows]


def test_the_first_of_equal_rows_is_kept_and_the_others_name_it(place: Any) -> None:
    rows = talks(("a", "b"), ("a", "c"), ("a", "b"), ("A", "b"), ("a", "b"))
    left, tally = combine(rows, place, deduplicate="exact")
    assert origins(left) == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:4"]
    assert plain(tally.filtered) == {
        "repeats another row": ("a.jsonl:3 as a.jsonl:1", "a.jsonl:5 as a.jsonl:1")
    }


def test_normalized_rows_are_equal_without_capitals_and_marks_but_not_without_signs(
    place: Any,
) -> None:
    rows = talks(("What is 2 + 2?", "4."), ('what  IS "2 + 2"', "4"), ("What is 2 - 2?", "4."))
    left, _ = combine(rows, place, deduplicate={"normalize": True})
    assert origins(left) == ["a.jsonl:1", "a.jsonl:3"]


@pytest.mark.parametrize(
    ("of", "kept", "reason"),
    [
        ("prompt", ["a.jsonl:1", "a.jsonl:3"], "has the prompt of another row"),
        ("answer", ["a.jsonl:1", "a.jsonl:2"], "has the answers of another row"),
    ],
)
def test_only_prompts_or_only_answers_can_be_compared(
    place: Any, of: str, kept: list[str], reason: str
) -> None:
    rows = talks(("a", "b"), ("a", "c"), ("d", "b"))
    left, tally = combine(rows, place, deduplicate={"of": of})
    assert origins(left) == kept
    assert list(tally.filtered) == [reason]


def test_rows_of_one_origin_are_told_apart(place: Any) -> None:
    rows = [pair("a", "b", "c", "x:1"), pair("a", "b", "d", "x:1"), pair("a", "b", "c", "x:1")]
    left, _ = combine(rows, place, deduplicate=True)
    assert left == rows[:2]


def test_another_verdict_score_or_tool_call_makes_no_repeat(place: Any) -> None:
    def call(x: int) -> Conversation:
        calls = [{"function": {"name": "f", "arguments": {"x": x}}}]
        answer = {"role": "assistant", "content": "", "tool_calls": calls}
        return Conversation(messages=(*turns("go"), answer))

    asked, answer = turns("a"), ({"role": "assistant", "content": "b"},)
    rows = [
        *(
            LabeledCompletion(prompt=asked, completion=answer, label=label)
            for label in (True, False)
        ),
        *(ScoredCompletion(prompt=asked, completion=answer, score=score) for score in (1, 2)),
        *(ClassifiedText(text="a", label=label) for label in "xy"),
        *(call(x) for x in (1, 2)),
        *(pair("a", *sides) for sides in ("bc", "cb")),
    ]
    for method in ("exact", "near"):
        left, _ = combine(rows, place, deduplicate=method)
        assert left == rows


def test_rows_that_say_nothing_repeat_nothing(place: Any) -> None:
    rows = [talk("", ""), talk("", "")]
    for method in ("exact", "near"):
        assert combine(rows, place, deduplicate=method)[0] == rows


@pytest.mark.parametrize("conflicts", ["keep", "drop"])
def test_what_contradicts_an_earlier_row_is_left_out_on_request(place: Any, conflicts: str) -> None:
    asked, answer = turns("a"), ({"role": "assistant", "content": "b"},)
    rows: list[Row] = [
        pair("a", "b", "c", "x:1"),
        pair("a", "c", "b", "x:2"),
        pair("A", "c", "b", "x:3"),
        LabeledCompletion(prompt=asked, completion=answer, label=True, origin="x:4"),
        LabeledCompletion(prompt=asked, completion=answer, label=False, origin="x:5"),
    ]
    left, tally = combine(rows, place, deduplicate={"conflicts": conflicts})
    if conflicts == "keep":
        assert left == rows
    else:
        assert origins(left) == ["x:1", "x:3", "x:4"]
        named = ("x:2 against x:1", "x:5 against x:4")
        assert plain(tally.filtered) == {"contradicts another row": named}


def _jaccard(item: set[bytes], other: set[bytes]) -> float:
    return len(item & other) / len(item | other)


def test_near_repeats_are_those_of_a_plain_computation(place: Any) -> None:
    """100 texts and a variant of each with some words changed: what shares clearly more runs than the
    threshold is left out, what shares clearly fewer is kept."""
    dice = random.Random(0)
    words = [f"w{i}" for i in range(2000)]
    rows: list[Row] = []
    for index in range(100):
        output = dice.choices(words, k=200)
        rows.append(text(" ".join(output), f"{index}"))
        for at in dice.sample(range(200), index // 5):
            output[at] = "changed"
        rows.append(text(" ".join(output), f"{index}'"))
    how = Deduplicate(method="near", threshold=0.8, ngram=3, permutations=256)
    left = {row.origin for row in combine(rows, place, deduplicate=how.model_dump())[0]}
    report = {True: 0, False: 0}
    for item, other in zip(rows[::2], rows[1::2], strict=True):
        assert item.origin in left
        similarity = _jaccard(shingles(item, how), shingles(other, how))
        if abs(similarity - 0.8) > 0.08:
            report[similarity > 0.8] += 1
            assert (other.origin not in left) == (similarity > 0.8), similarity
    assert report[True] > 20
    assert report[False] > 20


def test_near_repeats_name_the_row_they_repeat(place: Any) -> None:
    output = " ".join(map(str, range(100)))
    rows = [
        text(output, "1"),
        text(output.replace(" 50 ", " fifty "), "2"),
        text(output[::-1], "3"),
    ]
    left, tally = combine(rows, place, deduplicate="near")
    assert origins(left) == ["1", "3"]
    assert plain(tally.filtered) == {"nearly repeats another row": ("2 as 1",)}


def test_characters_serve_languages_without_spaces(place: Any) -> None:
    output = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 3
    rows = [text(output, "1"), text(output.replace("猫", "犬", 1), "2"), text(output[::-1], "3")]
    left, _ = combine(rows, place, deduplicate={"method": "near", "unit": "characters"})
    assert origins(left) == ["1", "3"]


@settings(max_examples=50, deadline=None)
@given(
    some.lists(some.text("ab ", max_size=30), max_size=12),
    some.sampled_from(["exact", "near"]),
    some.sampled_from(["all", "prompt", "answer"]),
)
def test_deduplicating_twice_is_deduplicating_once(output: list[str], method: str, of: str) -> None:
    rows = [talk(item, item[::2], origin=f"{i}") for i, item in enumerate(output)]
    options = {"method": method, "of": of, "ngram": 2}
    once, _ = combine(rows, Here(Path(), registry=REGISTRY), deduplicate=options)
    assert combine(once, Here(Path(), registry=REGISTRY), deduplicate=options)[0] == once


def test_what_is_measured_on_is_left_as_it_is(place: Any) -> None:
    line = '{"prompt": "a", "completion": "b"}\n'
    (place.recipe_folder / "b.jsonl").write_text(line * 2)
    step = DataOptions(data="b.jsonl", eval_data="b.jsonl", deduplicate=True)  # type: ignore[call-arg]
    step = with_named_operations(step, place)
    for option, specs, kept in (("data", step.data, 1), ("eval_data", step.eval_data, 2)):
        assert specs is not None
        stream = RowStream(specs, want="conversation", context=place, option=option, options=step)
        assert len(list(stream.rows())) == kept


def test_finding_near_repeats_says_what_it_needs(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        combine([text("a")], place, deduplicate="near")
    assert str(refused.value) == (
        "recipe.yaml:deduplicate: finding near repeats needs datasketch, which is not installed\n"
        "  hint: pip install aligner[curation], or use `deduplicate: exact`"
    )
