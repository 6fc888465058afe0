"""The built-in reward functions, case by case."""

from __future__ import annotations

import time

import pytest
from pydantic import ValidationError

from aligner.errors import DataError, StageError
from aligner.registry import Completion
from aligner_ppo.functions import FUNCTIONS, ExactMatch, Format, Length, Regex


def said(text: str, *, tokens: int = 1, **row) -> Completion:
    prompt = ({"role": "user", "content": "?"},)
    return Completion(prompt=prompt, text=text, tokens=tokens, row=row)


def score(kind, completions, **options):
    return kind(kind.Options(**options)).score(completions)


def test_length_pays_nothing_for_more_and_takes_for_too_much() -> None:
    """4 to 10 tokens are good; 12 are 2 over, of a margin of 8: −0.25; 30 are −1; 3 are −0.125."""
    lengths = [said("", tokens=n) for n in (4, 10, 12, 30, 3)]
    found = score(Length, lengths, minimum=4, maximum=10, margin=8)
    assert found == [0.0, 0.0, -0.25, -1.0, -0.125]


def test_format_pays_the_share_of_conditions_met() -> None:
    """Two conditions: it starts with `<a>`, and `<b>` comes before `</b>`."""
    texts = [said(" <a> <b> x </b>"), said("<a> </b> <b>"), said("nothing")]
    found = score(Format, texts, starts_with="<a>", contains=["<b>", "</b>"])
    assert found == [1.0, 0.5, 0.0]
    assert score(Format, [said('{"a": 1}'), said("{a: 1}"), said("[" * 100_000)], is_json=True) == [
        1.0,
        0.0,
        0.0,
    ]
    assert score(Format, [said("Yes. "), said("Yes")], ends_with=".") == [1.0, 0.0]


def test_exact_match_compares_with_the_row() -> None:
    completions = [
        said(" Paris\n", answer="Paris"),
        said("paris", answer="Paris"),
        said("", answer=7),
    ]
    assert score(ExactMatch, completions) == [1.0, 0.0, 0.0]
    assert score(ExactMatch, completions, ignore_case=True) == [1.0, 1.0, 0.0]
    steps = [said("6 · 7\nis\n42", result=42)]
    assert score(ExactMatch, steps, column="result", last_line=True) == [1.0]


def test_a_row_without_the_column_is_named() -> None:
    with pytest.raises(DataError) as refused:
        score(ExactMatch, [said("x", question="?", source="s")])
    assert str(refused.value) == (
        "reward function 'exact_match' finds no column 'answer' beside the prompt\n"
        "  hint: the row has: question, source"
    )


def test_a_regular_expression_is_searched_for_anywhere() -> None:
    texts = [said("so 42."), said("none"), said("ümläut 7\n")]
    assert score(Regex, texts, pattern=r"\d+") == [1.0, 0.0, 1.0]


def test_a_hostile_regular_expression_is_ended_and_named() -> None:
    """(a+)+$ on 60 letters would take longer than the universe is old."""
    began = time.monotonic()
    with pytest.raises(StageError) as stopped:
        score(Regex, [said("a" * 60 + "!")], pattern="(a+)+$", seconds=0.5)
    assert time.monotonic() - began < 10
    assert str(stopped.value) == (
        "reward function 'regex' with pattern '(a+)+$': it took longer than 0.5 s\n"
        "  hint: nested repetition such as (a+)+ takes time that doubles with every letter; "
        "write the pattern without it, or raise `seconds`"
    )


def test_a_broken_regular_expression_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValidationError, match=r"pattern '\(': missing \), unterminated subpattern"):
        Regex.Options(pattern="(")


def test_the_four_functions_are_offered_under_their_names() -> None:
    from aligner.host import Host

    offered = Host.discover().registry().reward_functions
    names = [kind.name for kind in FUNCTIONS]
    assert names == ["length", "format", "exact_match", "regex"]
    assert all(offered[kind.name] is kind for kind in FUNCTIONS)
