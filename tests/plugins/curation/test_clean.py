"""Cleaning tidies what people wrote, leaves code as it is, and says which rows it left out and why."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from aligner.data.rows import Conversation
from aligner.errors import ErrorGroup
from aligner_curation.clean import cleaner
from aligner_curation.filters import repetition
from aligner_curation.options import Clean
from tests.data.small_rows import asking, curate, output, pair, plain, talk, talks, text

CODE = "def f(x):\n    if x:\n\n\n        return {'a':  1}\n"


@pytest.mark.parametrize(
    ("written", "tidied"),
    [
        ("  a  b \t\nc\r\nd\re\n\n", "  a  b\nc\nd\ne"),
        ("\n \n    indented\n", "    indented"),
        ("a\n\n\n\n\n\nb\n\n\nc", "a\n\n\nb\n\n\nc"),
        (CODE, CODE.rstrip()),
        ("\ufeffzero\u200bwidth\x00 \x1b[31mred\x1b[0m bell\x07", "zerowidth red bell"),
        (
            "Persian \u0645\u06cc\u200c\u062e 👨\u200d👩",
            "Persian \u0645\u06cc\u200c\u062e 👨\u200d👩",
        ),
        ("cafe\u0301 ﬁne", "café ﬁne"),
        ("half a pair \ud83d", "half a pair"),
    ],
)
def test_tidying_changes_only_what_nobody_meant(written: str, tidied: str) -> None:
    assert cleaner(Clean())(written) == tidied


@pytest.mark.parametrize(
    ("options", "written", "cleaned"),
    [
        ({"whitespace": "collapse"}, "  a \t b\n\n\n\nc", "a b\n\nc"),
        (
            {"whitespace": "collapse"},
            "a  b\n```py\nx  =  1\n```\nc  d",
            "a b\n```py\nx  =  1\n```\nc d",
        ),
        ({"whitespace": "keep"}, " a \n\n\n\n\n", " a \n\n\n\n\n"),
        ({"control": False}, "a\x07", "a\x07"),
        ({"unicode": "NFKC"}, "ﬁne ２", "fine 2"),
        ({"unicode": "keep"}, "cafe\u0301", "cafe\u0301"),
    ],
)
def test_each_way_of_cleaning_can_be_chosen(options: Any, written: str, cleaned: str) -> None:
    assert cleaner(Clean(**options))(written) == cleaned


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<p>Fish &amp; <b>chips</b></p><p>Peas&nbsp;too</p>", "Fish & chips\nPeas\xa0too"),
        ("A<br>B<br/>C<br><br>D", "A\nB\nC\n\nD"),
        ("<script>alert('<p>')</script>z<!-- <b>no</b> -->", "z"),
        ("a < b, b > c: List<int>, <T> and </Foo>", "a < b, b > c: List<int>, <T> and </Foo>"),
        ("the <script> tag, a <!-- comment", "the <script> tag, a <!-- comment"),
        ("be&#7;ll&#8203; &zwj;&copy=1", "bell \u200d&copy=1"),
        ("<?php echo 1 ?> <b", "<?php echo 1 ?> <b"),
        ("```html\n<p>x</p>\n```\n<p>y</p>", "```html\n<p>x</p>\n```\ny"),
    ],
)
def test_html_becomes_the_text_it_shows(written: str, shown: str) -> None:
    assert cleaner(Clean(html=True))(written) == shown


@settings(max_examples=200, deadline=None)
@given(some.text(), some.sampled_from(["tidy", "collapse"]), some.sampled_from(["NFC", "NFKC"]))
def test_cleaning_twice_is_cleaning_once(written: str, whitespace: Any, unicode: Any) -> None:
    clean = cleaner(Clean(whitespace=whitespace, unicode=unicode))
    assert clean(clean(written)) == clean(written)


def test_thousands_of_openings_that_never_close_take_no_time() -> None:
    clean = cleaner(Clean(html=True, whitespace="collapse"))
    began = time.perf_counter()
    for piece in ("<script>", "<!--", "<p ", "```", "\x1b[", " \n"):
        clean(piece * 20_000)
    assert time.perf_counter() - began < 5


def test_every_turn_is_cleaned_but_not_what_a_tool_is_called_with(place: Any) -> None:
    call = {"function": {"name": "f", "arguments": {"x": " a\u200b "}}}
    row = Conversation(
        messages=(
            {"role": "user", "content": "Hi \n"},
            {"role": "assistant", "content": "", "tool_calls": [call], "reasoning": "so \u200b\n"},
            {"role": "tool", "content": "3\u200b"},
            {"role": "assistant", "content": "3 \n", "weight": 1},
        ),
        origin="a.jsonl:1",
    )
    (cleaned,), tally = curate([row], place, clean=True)
    assert cleaned == Conversation(
        messages=(
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [call], "reasoning": "so"},
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": "3", "weight": 1},
        ),
        origin="a.jsonl:1",
    )
    assert plain(tally.found) == {"cleaned": ("a.jsonl:1",)}


def test_a_row_that_is_clean_is_passed_on_itself(place: Any) -> None:
    row = talk("Hi", "Yes.")
    rows, tally = curate([row], place, clean=True)
    assert rows[0] is row
    assert (tally.found, tally.filtered) == ({}, {})


def test_rows_that_cleaning_empties_are_left_out(place: Any) -> None:
    rows = [
        talk("a", "\u200b", origin="1"),
        pair("a", "b ", "b", origin="2"),
        text("\ufeff", origin="3"),
        asking("\u200b"),
    ]
    left, tally = curate(rows, place, clean=True)
    assert left == []
    assert plain(tally.filtered) == {
        "an answer is empty after cleaning": ("1",),
        "chosen and rejected are identical after cleaning": ("2",),
        "the text is empty after cleaning": ("3",),
        "the prompt is empty after cleaning": ("",),
    }


def test_rows_are_left_out_by_their_lengths(place: Any) -> None:
    rows = talks(
        ("12345", "12345"), ("1", "12345678"), ("1", "2"), ("1" * 99, "12345"), ("1" * 20, "1")
    )
    limits = {"min_chars": 3, "max_chars": 50, "min_answer_chars": 2, "max_answer_chars": 7}
    left, tally = curate(rows, place, clean=limits)
    assert [row.origin for row in left] == ["a.jsonl:1"]
    assert plain(tally.filtered) == {
        "an answer of more than 7 characters": ("a.jsonl:2",),
        "fewer than 3 characters": ("a.jsonl:3",),
        "more than 50 characters": ("a.jsonl:4",),
        "an answer of fewer than 2 characters": ("a.jsonl:5",),
    }


def test_rows_are_left_out_by_patterns(place: Any) -> None:
    rows = talks(("As an AI", "no"), ("fine", "As an AI model"), ("sum", "a 1"), ("sum", "a b"))
    left, tally = curate(
        rows, place, clean={"drop_matching": ["^As an AI"], "keep_matching": [r"\d", "fine"]}
    )
    assert output(left) == [["sum", "a 1"]]
    assert plain(tally.filtered) == {
        "matches '^As an AI'": ("a.jsonl:1", "a.jsonl:2"),
        "matches no pattern of keep_matching": ("a.jsonl:4",),
    }


def test_what_is_no_pattern_is_refused(place: Any) -> None:
    with pytest.raises(ErrorGroup) as refused:
        curate([], place, clean={"drop_matching": ["("], "keep_matching": ["a**"]})
    assert str(refused.value) == (
        "recipe.yaml:data: clean.drop_matching: '(' is not a regular expression: "
        "missing ) at position 1\n"
        "recipe.yaml:data: clean.keep_matching: 'a**' is not a regular expression: "
        "multiple repeat at position 2"
    )


def test_a_pattern_that_takes_for_ever_is_stopped_and_named(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aligner_curation.filters.PATTERN_SECONDS", 0.1)
    rows = [talk("x", "a" * 40 + "b", origin="a.jsonl:7")]
    began = time.perf_counter()
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        curate(rows, place, clean={"drop_matching": [r"^(a|a|aa)+$"]})
    assert str(refused.value) == (
        "a.jsonl:7: the pattern '^(a|a|aa)+$' takes more than 0.1 s on this row\n"
        "  hint: avoid nested repetition such as (a+)+"
    )
    assert time.perf_counter() - began < 5


def test_repetition_is_the_share_that_stood_there_before() -> None:
    """Of 12 characters in lines 4 repeat; of 12 words the last 6 repeat the first 6."""
    assert repetition("abcd\nefgh\nabcd") == 4 / 12
    assert repetition("one two three four five six " * 2) == 6 / 12
    assert repetition("a short text") == 0
    assert repetition("") == 0


def test_rows_that_repeat_themselves_are_left_out(place: Any) -> None:
    rows = talks(("say it", "I do. \n" * 10), ("say it", "I do, once."))
    left, tally = curate(rows, place, clean={"max_repetition": 0.3})
    assert [row.origin for row in left] == ["a.jsonl:2"]
    assert plain(tally.filtered) == {"more than 30% of a text repeats": ("a.jsonl:1",)}


ENGLISH = "The weather was fine, so we walked along the river and talked about our plans."
GERMAN = "Das Wetter war schön, also gingen wir am Fluss entlang und sprachen über unsere Pläne."


def test_rows_in_other_languages_are_left_out_but_not_short_ones(place: Any) -> None:
    rows = talks(("Tell me.", ENGLISH), ("Erzähl.", GERMAN), ("Ja", "Nein"))
    left, tally = curate(rows, place, clean={"languages": ["en"]})
    assert [row.origin for row in left] == ["a.jsonl:1", "a.jsonl:3"]
    assert plain(tally.filtered) == {"in another language: de": ("a.jsonl:2",)}


def test_a_language_that_is_none_is_refused(place: Any) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        curate([], place, clean={"languages": ["english", "de"]})
    first, hint = str(refused.value).split("\n")
    assert (
        first == "recipe.yaml:data: clean.languages: there is no language with the code 'english'"
    )
    assert hint.startswith("  hint: known: ace, af, am, ")


def test_telling_languages_apart_says_what_it_needs(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        curate([], place, clean={"languages": ["en"]})
    assert str(refused.value) == (
        "recipe.yaml:data: identifying languages needs py3langid, which is not installed\n"
        "  hint: pip install aligner[curation]"
    )
