"""Decoding of tokens one at a time."""

from __future__ import annotations

import pytest

from aligner.chat.decoding import StreamDecoder
from aligner.chat.model import ChatModel


@pytest.mark.parametrize(
    "text", ["a red cat", "größer 猫 🐈 ok", " two  spaces\nand a line", "🐈🐈"]
)
def test_parts_have_no_partial_character_and_add_up_to_the_text(
    model: ChatModel, text: str
) -> None:
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    decoder = StreamDecoder(model.tokenizer)
    parts = [decoder.feed(token) for token in ids]
    assert all("\N{REPLACEMENT CHARACTER}" not in part for part in parts)
    assert "".join(parts) + decoder.end() == text == decoder.text


def test_control_characters_are_escaped(model: ChatModel) -> None:
    decoder = StreamDecoder(model.tokenizer)
    ids = model.tokenizer("\x1b[2Ja\u202eb", add_special_tokens=False)["input_ids"]
    assert "".join(map(decoder.feed, ids)) == "\\x1b[2Ja\\u202eb"
    assert decoder.text == "\x1b[2Ja\u202eb"


def test_an_incomplete_character_is_shown_at_the_end(model: ChatModel) -> None:
    decoder = StreamDecoder(model.tokenizer)
    ids = model.tokenizer("a🐈", add_special_tokens=False)["input_ids"][:-1]
    assert "".join(map(decoder.feed, ids)) == "a"
    assert decoder.end() == "\N{REPLACEMENT CHARACTER}"
    assert decoder.end() == ""


def test_special_tokens_are_not_shown(model: ChatModel) -> None:
    decoder = StreamDecoder(model.tokenizer)
    assert "".join(map(decoder.feed, model.chat.stops)) + decoder.end() == ""
