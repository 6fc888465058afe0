"""Which rows are made of a prompt's answers, worked out by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aligner_annotate.answers import Candidate
from aligner_annotate.select import rows_of, stand_ins, usable
from aligner_annotate.stage import AnnotateOptions

ASKED = ({"role": "user", "content": "which?"},)
ANSWERS = [("bad", 1.0), ("best", 4.0), ("good", 3.0), ("also bad", 1.0)]


def config(**options: Any) -> AnnotateOptions:
    return AnnotateOptions(**{"prompts": "prompts.jsonl", **options})


def pairs(answers: Any = ANSWERS, **options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Chosen and rejected of each row, and what was dropped."""
    dropped: Counter[str] = Counter()
    rows = rows_of(ASKED, None, answers, config(**options), dropped)
    assert all(row["prompt"] == list(ASKED) for row in rows)
    said = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    return said, {why: count for why, count in dropped.items() if count}


def kept(**options: Any) -> tuple[list[str], dict[str, int]]:
    """The answer of each conversation, and what was dropped."""
    dropped: Counter[str] = Counter()
    rows = rows_of(ASKED, None, ANSWERS, config(**options), dropped)
    return [row["messages"][-1]["content"] for row in rows], {k: n for k, n in dropped.items() if n}


def test_best_and_worst_is_one_pair_with_the_higher_score_chosen() -> None:
    assert pairs() == ([("best", "bad")], {}) or pairs() == ([("best", "also bad")], {})
    [row] = rows_of(ASKED, None, ANSWERS, config(), Counter())
    assert (row["score_chosen"], row["score_rejected"]) == (4.0, 1.0)


def test_equal_scores_make_no_pair() -> None:
    assert pairs([("a", 2.0), ("b", 2.0)]) == ([], {"ties": 1})
    assert pairs([("a", 2.0)]) == ([], {}), "one answer is no pair"
    assert pairs([]) == ([], {})


def test_a_pair_within_the_margin_is_left_out() -> None:
    assert pairs([("a", 1.0), ("b", 2.0)], margin=1.5) == ([], {"margin": 1})
    assert pairs([("a", 1.0), ("b", 2.0)], margin=1.0) == ([("b", "a")], {})


def test_pairs_are_all_that_differ_the_widest_first() -> None:
    """Differences: best 3 above each bad one, good 2 above each, best 1 above good, the bad ones tie."""
    said, dropped = pairs(keep="pairs")
    assert said == [
        ("best", "bad"),
        ("best", "also bad"),
        ("good", "bad"),
        ("good", "also bad"),
        ("best", "good"),
    ]
    assert dropped == {"ties": 1}
    assert pairs(keep="pairs", pairs_per_prompt=2)[0] == said[:2]
    assert pairs(keep="pairs", margin=2) == (said[:4], {"ties": 1, "margin": 1})


def test_nothing_is_chosen_that_does_not_score_above_the_bound() -> None:
    assert pairs(above=4.0) == ([], {"below": 1})
    assert pairs(keep="pairs", above=3.0)[0] == [
        ("best", "bad"),
        ("best", "also bad"),
        ("best", "good"),
    ]


def test_the_best_answer_makes_a_conversation() -> None:
    assert kept(keep="best") == (["best"], {})
    assert kept(keep="best", above=4) == ([], {"below": 4})


def test_every_answer_above_the_bound_makes_a_conversation() -> None:
    assert kept(keep="above", above=1.0) == (["best", "good"], {"below": 2})


def test_all_answers_with_their_scores_are_one_row() -> None:
    [row] = rows_of(ASKED, None, ANSWERS, config(keep="all"), Counter())
    assert row["scores"] == [1.0, 4.0, 3.0, 1.0]
    assert [one[0]["content"] for one in row["completions"]] == ["bad", "best", "good", "also bad"]


def test_only_the_sampled_answer_is_learnt_from_a_conversation() -> None:
    """What the assistant is quoted with in the prompt has weight 0."""
    asked = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "which?"},
    )
    tools = ({"type": "function", "function": {"name": "look"}},)
    [row] = rows_of(asked, tools, ANSWERS, config(keep="best"), Counter())
    assert row["messages"] == [
        asked[0],
        {"role": "assistant", "content": "hello", "weight": 0},
        asked[2],
        {"role": "assistant", "content": "best"},
    ]
    assert row["tools"] == list(tools)


def test_cut_off_empty_and_repeated_answers_are_left_out_and_counted() -> None:
    said = [("a", True), (" ", True), ("b", False), ("a", True), ("c", True)]
    candidates = [Candidate(text=text, ended=ended, tokens=1) for text, ended in said]
    dropped: Counter[str] = Counter()
    assert usable(candidates, config(), dropped) == [0, 4]
    assert dropped == {"empty": 1, "unended": 1, "identical": 1}
    assert usable(candidates, config(ended_only=False), Counter()) == [0, 2, 4]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, 1),
        ({"margin": 0.7, "above": 1e6}, 1),
        ({"keep": "pairs"}, 6),
        ({"keep": "pairs", "margin": 0.1, "above": -5}, 6),
        ({"keep": "pairs", "pairs_per_prompt": 2}, 2),
        ({"keep": "best", "above": 0.3}, 1),
        ({"keep": "above", "above": 0.3}, 4),
        ({"keep": "all"}, 1),
    ],
)
def test_there_are_as_many_stand_ins_as_there_may_be_rows(
    options: dict[str, Any], rows: int
) -> None:
    assert len(stand_ins(ASKED, None, config(**options))) == rows
