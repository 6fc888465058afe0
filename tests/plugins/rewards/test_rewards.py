"""Reward functions without a model, case by case."""

from __future__ import annotations

import time

import pytest
from pydantic import ValidationError

from aligner.errors import DataError, StageError
from aligner.host import Host
from aligner.registry import Completion, RewardFunction
from aligner_rewards import aligner_reward_functions
from aligner_rewards.exact_match import ExactMatchReward
from aligner_rewards.format import FormatReward
from aligner_rewards.length import LengthReward
from aligner_rewards.regex import RegexReward


def answer(text: str, *, tokens: int = 1, **row) -> Completion:
    prompt = ({"role": "user", "content": "?"},)
    return Completion(prompt=prompt, text=text, tokens=tokens, row=row)


def score(kind, completions, **options):
    return kind(kind.Options(**options)).score(completions)


def test_length_never_rewards_more_tokens_and_penalizes_too_many() -> None:
    """4 to 10 tokens are good; 12 are 2 over, of a margin of 8: −0.25; 30 are −1; 3 are −0.125."""
    lengths = [answer("", tokens=n) for n in (4, 10, 12, 30, 3)]
    found = score(LengthReward, lengths, minimum=4, maximum=10, margin=8)
    assert found == [0.0, 0.0, -0.25, -1.0, -0.125]


def test_format_returns_the_share_of_conditions_met() -> None:
    """Two conditions: it starts with `<a>`, and `<b>` comes before `</b>`."""
    texts = [answer(" <a> <b> x </b>"), answer("<a> </b> <b>"), answer("nothing")]
    found = score(FormatReward, texts, starts_with="<a>", contains=["<b>", "</b>"])
    assert found == [1.0, 0.5, 0.0]
    assert score(
        FormatReward, [answer('{"a": 1}'), answer("{a: 1}"), answer("[" * 100_000)], is_json=True
    ) == [
        1.0,
        0.0,
        0.0,
    ]
    assert score(FormatReward, [answer("Yes. "), answer("Yes")], ends_with=".") == [1.0, 0.0]


def test_exact_match_compares_with_the_row() -> None:
    completions = [
        answer(" Paris\n", answer="Paris"),
        answer("paris", answer="Paris"),
        answer("", answer=7),
    ]
    assert score(ExactMatchReward, completions) == [1.0, 0.0, 0.0]
    assert score(ExactMatchReward, completions, ignore_case=True) == [1.0, 1.0, 0.0]
    steps = [answer("6 · 7\nis\n42", result=42)]
    assert score(ExactMatchReward, steps, column="result", last_line=True) == [1.0]


def test_a_row_without_the_column_is_named() -> None:
    with pytest.raises(DataError) as refused:
        score(ExactMatchReward, [answer("x", question="?", source="s")])
    assert str(refused.value) == (
        "reward function 'exact_match' needs column 'answer', and a prompt's row does not have it\n"
        "  hint: the row has: question, source"
    )


def test_a_regular_expression_is_searched_for_anywhere() -> None:
    texts = [answer("so 42."), answer("none"), answer("ümläut 7\n")]
    assert score(RegexReward, texts, pattern=r"\d+") == [1.0, 0.0, 1.0]


def test_a_regular_expression_without_end_is_stopped_and_named() -> None:
    """(a+)+$ on 60 letters would take longer than the universe is old."""
    began = time.monotonic()
    with pytest.raises(StageError) as stopped:
        score(RegexReward, [answer("a" * 60 + "!")], pattern="(a+)+$", seconds=0.5)
    assert time.monotonic() - began < 10
    assert str(stopped.value) == (
        "reward function 'regex' with pattern '(a+)+$': the search took longer than 0.5 s\n"
        "  hint: nested repetition such as (a+)+ takes time that doubles with every letter; "
        "write the pattern without it, or raise `seconds`"
    )


def test_a_broken_regular_expression_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValidationError, match=r"pattern '\(': missing \), unterminated subpattern"):
        RegexReward.Options(pattern="(")


def functions() -> list[type[RewardFunction]]:
    return list(aligner_reward_functions())


def test_the_four_functions_are_registered_under_their_names() -> None:
    registered = Host.discover().registry().reward_functions
    assert [function.name for function in functions()] == [
        "length", "format", "exact_match", "regex"
    ]  # fmt: skip
    assert all(registered[function.name] is function for function in functions())


def test_the_functions_are_found_where_ppo_is_blocked() -> None:
    host = Host.discover(block=["ppo"])
    assert "ppo" not in host.stages()
    registered = host.registry().reward_functions
    assert all(registered[function.name] is function for function in functions())
