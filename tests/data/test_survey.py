"""A survey's metrics are those that one would count by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest

from aligner.data.rows import ClassifiedText, LabeledCompletion, Prompt, ScoredCompletion
from aligner.data.survey import GROUPS, survey_rows
from tests.data.small_rows import pair, talk, text, turns


def test_pairs_are_compared_side_by_side() -> None:
    """Two of three chosen answers are longer, by 2, 4 and -1 characters, at margins 1, 3 and 0."""
    rows = [
        replace(pair("Why so", "abcd", "ab"), margin=1.0),
        replace(pair("Why so", "I am she", "I do"), margin=3.0),
        replace(pair("Why not", "a", "he"), margin=0.0),
    ]
    found = survey_rows(rows, groups={"women": ["she"], "men": ["he"]})
    assert (found.kind, found.rows) == ("preference", 3)
    assert found.chosen_longer == pytest.approx(2 / 3)
    wanted = numpy.corrcoef([1, 3, 0], [2, 4, -1])[0, 1]
    assert found.margin_correlation == pytest.approx(wanted)
    assert found.characters["chosen"] == {
        "min": 1, "median": 4, "mean": 4.3, "p90": 8, "p99": 8, "max": 8,
    }  # fmt: skip
    assert found.words["rejected"]["max"] == 2
    assert found.beginnings == {
        "prompt": {"why so": 2, "why not": 1},
        "chosen": {"abcd": 1, "i am": 1, "a": 1},
        "rejected": {"ab": 1, "i do": 1, "he": 1},
    }
    assert found.groups == {
        "women": {"prompt": 0, "chosen": 1, "rejected": 0},
        "men": {"prompt": 0, "chosen": 0, "rejected": 1},
    }
    assert (found.repeated_rows, found.repeated_prompts) == (0, pytest.approx(1 / 3))


def test_labels_are_counted_and_their_texts_compared() -> None:
    rows = [
        ClassifiedText(text="she is", label="1"),
        ClassifiedText(text="it", pair="he", label="0"),
    ]
    found = survey_rows([*rows, rows[0]], groups=GROUPS)
    assert found.labels == {"1": 2, "0": 1}
    assert found.characters["text, 0"]["max"] == 5
    assert found.groups == {
        "women": {"text, 1": 2, "text, 0": 0},
        "men": {"text, 1": 0, "text, 0": 1},
    }
    assert found.repeated_rows == pytest.approx(1 / 3)
    answers = [{"role": "assistant", "content": "a" * n} for n in (3, 5)]
    report = [
        LabeledCompletion(prompt=turns("q"), completion=(answer,), label=label)
        for answer, label in zip(answers, (True, False), strict=True)
    ]
    assert survey_rows(report).characters["answer, False"]["max"] == 5


def test_scores_are_held_against_lengths() -> None:
    rows = [
        ScoredCompletion(
            prompt=turns("q"), completion=({"role": "assistant", "content": "a" * n},), score=-n
        )
        for n in (1, 2, 3)
    ]
    assert survey_rows(rows).margin_correlation == pytest.approx(-1)
    same = [replace(row, score=1) for row in rows]
    assert survey_rows(same).margin_correlation is None


def test_conversations_have_turns_and_prompts_no_answers() -> None:
    found = survey_rows([talk("a", "b", "c", "d"), talk("a", "b")])
    assert (found.turns["min"], found.turns["max"]) == (2, 4)
    assert list(found.characters) == ["prompt", "answer"]
    assert found.characters["prompt"]["max"] == 1
    found = survey_rows([Prompt(messages=turns("a", "b", "c"))])
    assert list(found.characters) == ["prompt"]


def test_what_was_answered_in_the_course_of_a_prompt_is_no_side() -> None:
    row = replace(pair("a", "b", "c"), prompt=turns("a", "before", "again"))
    assert list(survey_rows([row]).characters) == ["prompt", "chosen", "rejected"]


def test_languages_are_told_of_texts_that_are_long_enough() -> None:
    found = survey_rows([text("a" * 40), text("b" * 39)], language=lambda output: output[:1])
    assert found.languages == {"a": 1}


def test_a_survey_of_nothing_is_empty() -> None:
    found = survey_rows([])
    assert (found.rows, found.kind, found.chosen_longer, found.labels) == (0, "", None, {})
