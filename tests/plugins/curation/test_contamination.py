"""Rows that share runs of words with evaluation data are left out, and named with the row they share."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from aligner.data.options import DataOptions
from aligner.data.reading.load import step_determinants
from aligner.data.reading.operations import with_named_operations
from aligner.data.rows import Conversation
from aligner.errors import ChainError
from aligner_curation.contamination import NgramIndex
from tests.data.small_rows import combine, plain, talk, talks, text, turns
from tests.plugins.curation.test_duplicates import origins

LONG = "If a train leaves the old station at noon and travels at sixty miles an hour, when is it there?"


def write(place: Any, name: str, *rows: Any) -> None:
    (place.recipe_folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_of_words_in_common_with_an_evaluation_row_is_found(place: Any) -> None:
    write(
        place,
        "eval.jsonl",
        {"prompt": "Hi", "completion": "Ho"},
        {"prompt": LONG, "completion": "2"},
    )
    rows = talks(
        ("Hello", "if A TRAIN leaves: the old station at noon, and travels at sixty miles"),
        ("Hello", "if a train leaves the old station at noon and then travels at sixty miles"),
        (f"Solve this, please. {LONG}", "At two."),
    )
    left, tally = combine(rows, place, eval_data="eval.jsonl", decontaminate=True)
    assert origins(left) == ["a.jsonl:2"]
    assert plain(tally.filtered) == {
        "has words in common with evaluation data": (
            "a.jsonl:1 with eval.jsonl:2",
            "a.jsonl:3 with eval.jsonl:2",
        )
    }


def test_a_prompt_shorter_than_a_run_is_compared_whole(place: Any) -> None:
    write(place, "eval.jsonl", {"prompt": "What is 2 + 2?", "completion": "4"})
    rows = talks(("what is 2 + 2", "5"), ("What is 2 - 2?", "4"), ("So, what is 2 + 2?", "4"))
    left, _ = combine(rows, place, decontaminate={"against": "eval.jsonl"})
    assert origins(left) == ["a.jsonl:2", "a.jsonl:3"]


def test_data_sets_of_any_kind_and_their_curation_can_be_named(place: Any) -> None:
    write(place, "text.jsonl", {"text": LONG})
    write(place, "pairs.jsonl", {"prompt": "a", "chosen": LONG.upper(), "rejected": "b"})
    write(place, "class.jsonl", {"text": "<b>short</b>", "label": 1})
    sets = ["text.jsonl", "pairs.jsonl", {"path": "class.jsonl", "clean": {"html": True}}]
    for item in sets:
        rows = [text(LONG), text("short"), text("other")]
        left, _ = combine(rows, place, decontaminate={"against": item})
        assert len(left) == 2, item
    left, _ = combine(rows, place, decontaminate={"against": sets})
    assert left == [text("other")]


def test_system_turns_are_not_compared(place: Any) -> None:
    system = {"role": "system", "content": LONG}
    write(place, "eval.jsonl", {"messages": [system, *turns("a", "b")]})
    row = Conversation(messages=(system, *turns("c", "d")))
    assert combine([row], place, decontaminate={"against": "eval.jsonl"})[0] == [row]


def test_phrases_of_many_evaluation_rows_do_not_count(place: Any) -> None:
    asked = [{"prompt": f"{LONG} {n}", "completion": "x"} for n in range(4)]
    write(place, "eval.jsonl", *asked)
    row = talk(LONG, "y")
    for common, left in ((4, []), (3, [row])):
        against = {"against": "eval.jsonl", "common": common}
        assert combine([row], place, decontaminate=against)[0] == left
    write(place, "same.jsonl", *[asked[0] | {"completion": str(n)} for n in range(4)])
    against = {"against": "same.jsonl", "common": 3}
    assert combine([row], place, decontaminate=against)[0] == []


def test_a_share_of_the_runs_can_be_allowed(place: Any) -> None:
    """The row has 16 words, so 14 runs of three; 5 of its words make 3 runs of the evaluation row."""
    write(place, "eval.jsonl", {"prompt": "one two three four five", "completion": "x"})
    row = text("one two three four five " + " ".join("abcdefghijk"))
    for share, left in ((0.2, []), (3 / 14, [row])):
        against = {"against": "eval.jsonl", "ngram": 3, "share": share}
        assert combine([row], place, decontaminate=against)[0] == left


def test_runs_are_those_of_a_plain_computation(place: Any) -> None:
    dice = random.Random(0)
    measured = [" ".join(dice.choices("abcd", k=12)) for _ in range(20)]
    trained = [" ".join(dice.choices("abcd", k=12)) for _ in range(200)]

    def runs(output: str) -> set[tuple[str, ...]]:
        words = output.split()
        return {tuple(words[i : i + 6]) for i in range(len(words) - 5)}

    theirs = set().union(*map(runs, measured))
    write(place, "eval.jsonl", *[{"text": item} for item in measured])
    against = {"against": "eval.jsonl", "ngram": 6, "common": 20}
    left, _ = combine([text(item) for item in trained], place, decontaminate=against)
    wanted = [text(item) for item in trained if not runs(item) & theirs]
    assert left == wanted
    assert 20 < len(wanted) < 180


def test_the_same_words_in_another_order_are_another_run() -> None:
    runs = NgramIndex(3)
    assert len(set(runs.ngrams_of(text("a b c a b d")) + runs.ngrams_of(text("c b a")))) == 5


def test_what_is_held_against_rows_counts_by_its_content(place: Any) -> None:
    def report(**options: Any) -> str:
        place.memo.clear()
        step = with_named_operations(DataOptions(data="a.jsonl", **options), place)
        return step_determinants(step, place)

    write(place, "eval.jsonl", {"text": "one"})
    first = report(decontaminate={"against": "eval.jsonl"})
    write(place, "moved.jsonl", {"text": "one"})
    assert report(decontaminate={"against": "moved.jsonl"}) == first
    write(place, "eval.jsonl", {"text": "two"})
    assert report(decontaminate={"against": "eval.jsonl"}) != first
    assert report() == ""


def test_there_must_be_something_to_compare_with(place: Any) -> None:
    with pytest.raises(ChainError) as refused:
        with_named_operations(DataOptions(data="a.jsonl", decontaminate=True), place)  # type: ignore[call-arg]
    assert refused.value.what == (
        "data: decontaminate has nothing to compare with: give it `against`, or eval_data"
    )


def test_data_to_compare_with_that_is_not_there_is_refused(place: Any) -> None:
    write(place, "one.jsonl")
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        combine([text("a")], place, decontaminate={"against": "none.jsonl"})
    assert str(refused.value) == (
        "recipe.yaml:decontaminate.against: no file or folder 'none.jsonl'\n  hint: did you mean 'one.jsonl'?"
    )


def test_data_to_compare_with_that_fits_two_formats_is_refused(place: Any) -> None:
    row = {"question": "a", "answer": "b", "instruction": "c", "output": "d"}
    write(place, "two.jsonl", row)
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        combine([text("a")], place, decontaminate={"against": "two.jsonl"})
    assert str(refused.value) == (
        "recipe.yaml:decontaminate.against: the rows of two.jsonl match alpaca and question-answer\n"
        "  hint: choose one with `format: question-answer`"
    )
