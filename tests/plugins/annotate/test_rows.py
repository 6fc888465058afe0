"""Rows made of a prompt's completions, worked out by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aligner_annotate.generation import Candidate
from aligner_annotate.options import AnnotateOptions
from aligner_annotate.rows import make_rows, placeholder_rows, usable_candidates

PROMPT = ({"role": "user", "content": "which?"},)
ANSWERS = [("bad", 1.0), ("best", 4.0), ("good", 3.0), ("also bad", 1.0)]


def options_of(**options: Any) -> AnnotateOptions:
    return AnnotateOptions(**{"prompts": "prompts.jsonl", **options})


def pairs(answers: Any = ANSWERS, **options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Return chosen and rejected text of each row, and the dropped pairs by reason."""
    dropped: Counter[str] = Counter()
    rows = make_rows(PROMPT, None, answers, options_of(**options), dropped)
    assert all(row["prompt"] == list(PROMPT) for row in rows)
    sides = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    return sides, {reason: count for reason, count in dropped.items() if count}


def kept(**options: Any) -> tuple[list[str], dict[str, int]]:
    """Return the last turn of each conversation, and the dropped completions by reason."""
    dropped: Counter[str] = Counter()
    rows = make_rows(PROMPT, None, ANSWERS, options_of(**options), dropped)
    return [row["messages"][-1]["content"] for row in rows], {k: n for k, n in dropped.items() if n}


def test_best_and_worst_is_one_pair_with_the_higher_score_chosen() -> None:
    assert pairs() == ([("best", "bad")], {}) or pairs() == ([("best", "also bad")], {})
    [row] = make_rows(PROMPT, None, ANSWERS, options_of(), Counter())
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
    found, dropped = pairs(keep="pairs")
    assert found == [
        ("best", "bad"),
        ("best", "also bad"),
        ("good", "bad"),
        ("good", "also bad"),
        ("best", "good"),
    ]
    assert dropped == {"ties": 1}
    assert pairs(keep="pairs", pairs_per_prompt=2)[0] == found[:2]
    assert pairs(keep="pairs", margin=2) == (found[:4], {"ties": 1, "margin": 1})


def test_the_chosen_completion_scores_above_the_threshold() -> None:
    assert pairs(above=4.0) == ([], {"below": 1})
    assert pairs(keep="pairs", above=3.0)[0] == [
        ("best", "bad"),
        ("best", "also bad"),
        ("best", "good"),
    ]


def test_the_best_answer_makes_a_conversation() -> None:
    assert kept(keep="best") == (["best"], {})
    assert kept(keep="best", above=4) == ([], {"below": 4})


def test_every_completion_above_the_threshold_makes_a_conversation() -> None:
    assert kept(keep="above", above=1.0) == (["best", "good"], {"below": 2})


def test_all_answers_with_their_scores_are_one_row() -> None:
    [row] = make_rows(PROMPT, None, ANSWERS, options_of(keep="all"), Counter())
    assert row["scores"] == [1.0, 4.0, 3.0, 1.0]
    assert [turns[0]["content"] for turns in row["completions"]] == [
        "bad",
        "best",
        "good",
        "also bad",
    ]


def test_only_the_sampled_completion_of_a_conversation_is_trained() -> None:
    """Turns of the assistant in the prompt have weight 0."""
    turns = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "which?"},
    )
    tools = ({"type": "function", "function": {"name": "look"}},)
    [row] = make_rows(turns, tools, ANSWERS, options_of(keep="best"), Counter())
    assert row["messages"] == [
        turns[0],
        {"role": "assistant", "content": "hello", "weight": 0},
        turns[2],
        {"role": "assistant", "content": "best"},
    ]
    assert row["tools"] == list(tools)


def test_truncated_empty_and_repeated_completions_are_dropped_and_counted() -> None:
    texts = [("a", True), (" ", True), ("b", False), ("a", True), ("c", True)]
    candidates = [Candidate(text=text, ended=ended, tokens=1) for text, ended in texts]
    dropped: Counter[str] = Counter()
    assert usable_candidates(candidates, options_of(), dropped) == [0, 4]
    assert dropped == {"empty": 1, "unended": 1, "identical": 1}
    assert usable_candidates(candidates, options_of(ended_only=False), Counter()) == [0, 2, 4]


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
def test_there_are_as_many_placeholder_rows_as_a_prompt_may_give(
    options: dict[str, Any], rows: int
) -> None:
    assert len(placeholder_rows(PROMPT, None, options_of(**options))) == rows
