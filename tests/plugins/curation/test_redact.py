"""Personal data and secrets are replaced by their kinds, wherever they stand, and what is none is left."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from aligner.data.rows import Conversation
from aligner_curation.options import Redact
from aligner_curation.redact import RedactRows, redactor
from tests.data.small_rows import asking, curate, output, plain, talks

# Put together here, so that nobody who searches this file for secrets finds one.
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB = "ghp_" + "a1B2" * 9
OPENAI = "sk-" + "proj-" + "Ab1_" * 8
SLACK = "xoxb-" + "123456789012-abcdefABCDEF"
JWT = ".".join(
    ("eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P")
)
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA PRIVATE KEY-----"

SECRETS = [
    ("write to jane.doe+x@mail.example.co.uk.", "write to [email]."),
    ("mailto:a@b.io, or <c_d@e-f.org>", "mailto:[email], or <[email]>"),
    (f"{AWS} {GITHUB} '{OPENAI}' {SLACK}", "[key] [key] '[key]' [key]"),
    (f"Bearer {JWT}\n{PEM}\nend", "Bearer [key]\n[key]\nend"),
    ("api_key=9f8e7d6c5b4a39281706 x", "api_key=[key] x"),
    ('"client_secret": "Zm9vYmFyMTIzNDU2Nzg5"', '"client_secret": "[key]"'),
    ("password: hunter22", "password: [key]"),
    ("call +1 650-253-0000 or +44 20 7031 3000", "call [phone] or [phone]"),
    ("from 8.8.8.8:53 and 2001:4860:4860::8888", "from [ip]:53 and [ip]"),
    ("card 4111 1111 1111 1111, 5500-0000-0000-0004", "card [card], [card]"),
    ("pay DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432", "pay [iban] or [iban]"),
]
HARMLESS = [
    "user@localhost, a @mention, 5 @ 3, x@y",
    "AKIA is short, sk-learn is a library, ghp_ too; token = tokenizer.encode(x2)",
    "api_key = os.environ['KEY'], password: correct, max_tokens=4096",
    "in 1984 there were 12345678 people; 3.14159265358979; 10/12/2024 12:30:45",
    "version 1.2.3.4.5, 192.168.0.1, 127.0.0.1, 999.1.1.1, std::vector, a::b, ::",
    "order 4111 1111 1111 1112, 1234567890123456, 0000000000000000",
    "DE89 3704 0044 0532 0130 01, AB12 CDEF GHIJ KLMN",
]


@pytest.mark.parametrize(("written", "replaced"), SECRETS)
def test_what_identifies_somebody_is_replaced(place: Any, written: str, replaced: str) -> None:
    assert redactor(Redact(), set(), "recipe.yaml:data")(written) == replaced


@pytest.mark.parametrize("written", HARMLESS)
def test_what_only_looks_like_it_is_left(place: Any, written: str) -> None:
    assert redactor(Redact(), set(), "recipe.yaml:data")(written) == written


def test_national_numbers_are_found_where_their_country_is_named(place: Any) -> None:
    written = "call (650) 253-0000"
    assert redactor(Redact(), set(), "recipe.yaml:data")(written) == written
    assert redactor(Redact(region="US"), set(), "recipe.yaml:data")(written) == "call [phone]"


def test_only_the_kinds_that_are_named_are_replaced(place: Any) -> None:
    rows, _ = curate(talks(("a@b.io 8.8.8.8", "ok")), place, redact=["ip"])
    assert output(rows) == [["a@b.io [ip]", "ok"]]


@settings(max_examples=100, deadline=None)
@given(
    some.lists(
        some.sampled_from([item for item, _ in SECRETS]) | some.text("a1@.:+- =4\n", max_size=12)
    ).map("".join)
)
def test_redacting_twice_is_redacting_once(written: str) -> None:
    replaced = redactor(Redact(), set(), "recipe.yaml:data")
    assert replaced(replaced(written)) == replaced(written)


def test_tool_calls_reasoning_and_other_columns_are_redacted_too(place: Any) -> None:
    call = {"function": {"name": "mail", "arguments": {"to": ["a@b.io"], "n": 3}}}
    row = Conversation(
        messages=(
            {"role": "user", "content": "Mail a@b.io"},
            {"role": "assistant", "content": "", "reasoning": "a@b.io?", "tool_calls": [call]},
        )
    )
    rows, _ = curate([row, asking("Who?", answer="a@b.io", n=1)], place, redact=["email"])
    assert rows[0].messages == (  # type: ignore[attr-defined]
        {"role": "user", "content": "Mail [email]"},
        {
            "role": "assistant",
            "content": "",
            "reasoning": "[email]?",
            "tool_calls": [
                {"function": {"name": "mail", "arguments": {"to": ["[email]"], "n": 3}}}
            ],
        },
    )
    assert rows[1].row == {"answer": "[email]", "n": 1}  # type: ignore[attr-defined]


def test_the_ledger_counts_rows_by_kind_and_names_no_content(place: Any) -> None:
    rows = talks(("a@b.io", f"{AWS} c@d.io"), ("a", "b"), ("x", "password: hunter22"))
    _, tally = curate(rows, place, redact=True)
    assert plain(tally.found) == {
        "redacted_key": ("a.jsonl:1", "a.jsonl:3"),
        "redacted_email": ("a.jsonl:1",),
    }
    assert all(not count.detail for count in tally.found.values())
    kinds = set(Redact().kinds)
    assert {f"redacted_{kind}" for kind in kinds} == set(RedactRows.findings)


def test_a_region_that_is_none_is_refused(place: Any) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        curate([], place, redact={"region": "XX"})
    assert str(refused.value) == (
        "recipe.yaml:data: redact.region: there is no region 'XX'\n"
        "  hint: give a country by its two letters, such as US"
    )


def test_finding_phone_numbers_says_what_it_needs(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        curate([], place, redact=True)
    assert str(refused.value) == (
        "recipe.yaml:data: finding phone numbers needs phonenumbers, which is not installed\n"
        "  hint: pip install aligner[curation], or name other kinds: `redact: [email, key]`"
    )
    rows, _ = curate(talks(("a@b.io", "b")), place, redact=["email"])
    assert output(rows) == [["[email]", "b"]]


def test_long_texts_that_nearly_match_take_no_time(place: Any) -> None:
    kinds = ("email", "key", "ip", "card", "iban")
    replaced = redactor(Redact(kinds=kinds), set(), "recipe.yaml:data")
    began = time.perf_counter()
    for piece in (
        "a@a.",
        "a.",
        "1 ",
        "1.",
        "ab:",
        "AB12 ",
        "eyJ",
        "token=",
        "-----BEGIN PRIVATE KEY",
    ):
        replaced(piece * 20_000)
    assert time.perf_counter() - began < 5, json.dumps(kinds)
