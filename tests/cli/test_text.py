"""Text that may reach a terminal, a log or an error file."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from aligner.terminal.text import escape_controls, hide_secrets, one_line, sanitize


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Lu", "Zl", "Zp"])))
def test_no_control_or_direction_character_survives_cleaning(text: str) -> None:
    categories = {unicodedata.category(c) for c in escape_controls(text) if c not in "\n\t"}
    assert categories <= {"Lu", "Ll", "Nd", "Po"}
    escape_controls(text).encode("utf-8")


def test_one_line_has_no_newlines() -> None:
    assert one_line("a\r\nb\x1b]0;title\x07\n") == "a b\\x1b]0;title\\x07"


def test_secrets_are_hidden_by_the_name_of_their_variable_and_short_values_are_not() -> None:
    environment = {
        "HF_TOKEN": "abcdef123",
        "aws_secret_access_key": "zyxwvu",
        "WANDB_API_KEY": "wwwwww",
        "DB_PASSWORD": "hunter2hunter2",
        "A_KEY": "1",
        "KEYBOARD": "qwerty",
    }
    text = "abcdef123 zyxwvu wwwwww hunter2hunter2 1 qwerty"
    assert hide_secrets(text, environment) == (
        "[HF_TOKEN hidden] [aws_secret_access_key hidden] [WANDB_API_KEY hidden] "
        "[DB_PASSWORD hidden] 1 qwerty"
    )


def test_a_hub_token_is_hidden_in_any_text() -> None:
    assert sanitize("token=hf_" + "a1" * 15) == "token=[hub token hidden]"
