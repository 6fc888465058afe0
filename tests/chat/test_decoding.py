"""Tokens as they come, turned into text that is fit to be shown."""

from __future__ import annotations

import pytest

from aligner.chat.decoding import Decoder
from aligner.chat.speaker import Speaker


@pytest.mark.parametrize(
    "text", ["a red cat", "größer 猫 🐈 ok", " two  spaces\nand a line", "🐈🐈"]
)
def test_pieces_hold_no_half_character_and_together_are_the_text(
    speaker: Speaker, text: str
) -> None:
    ids = speaker.tokenizer(text, add_special_tokens=False)["input_ids"]
    decoder = Decoder(speaker.tokenizer)
    pieces = [decoder.feed(token) for token in ids]
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)
    assert "".join(pieces) + decoder.end() == text == decoder.text


def test_what_would_steer_a_terminal_is_written_out(speaker: Speaker) -> None:
    decoder = Decoder(speaker.tokenizer)
    ids = speaker.tokenizer("\x1b[2Ja\u202eb", add_special_tokens=False)["input_ids"]
    assert "".join(map(decoder.feed, ids)) == "\\x1b[2Ja\\u202eb"
    assert decoder.text == "\x1b[2Ja\u202eb"


def test_a_character_that_is_never_finished_is_shown_at_the_end(speaker: Speaker) -> None:
    decoder = Decoder(speaker.tokenizer)
    ids = speaker.tokenizer("a🐈", add_special_tokens=False)["input_ids"][:-1]
    assert "".join(map(decoder.feed, ids)) == "a"
    assert decoder.end() == "\N{REPLACEMENT CHARACTER}"
    assert decoder.end() == ""


def test_special_tokens_are_not_shown(speaker: Speaker) -> None:
    decoder = Decoder(speaker.tokenizer)
    assert "".join(map(decoder.feed, speaker.chat.stops)) + decoder.end() == ""
