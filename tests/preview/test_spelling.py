"""Every token is shown with its exact text, for every kind of vocabulary."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from aligner.data.encoding.spelling import TokenSpeller
from aligner.testing import tiny_tokenizer

SHARED = Path(os.environ.get("ALIGNER_SHARED", Path(__file__).parents[2] / ".." / "shared"))
TOKENIZER = tiny_tokenizer()
SPELLER = TokenSpeller(TOKENIZER)


def _ids(text: str) -> list[int]:
    return list(TOKENIZER.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _bytes(spelled: str) -> bytes:
    return b"".join(
        bytes([int(part[2:], 16)])
        for part in [spelled[n : n + 4] for n in range(0, len(spelled), 4)]
    )


def test_spaces_line_ends_and_control_tokens_are_spelled_as_they_are() -> None:
    spelled = [SPELLER.text(token) for token in _ids("<|user|>the cat\n runs\t<|end|>")]
    assert "".join(spelled) == "<|user|>the cat\n runs\t<|end|>"
    assert (spelled[0], spelled[2], spelled[-1]) == ("<|user|>", " cat", "<|end|>")


def test_control_tokens_are_marked() -> None:
    end, cat = TOKENIZER.convert_tokens_to_ids("<|end|>"), _ids("cat")[0]
    assert SPELLER.special(end)
    assert not SPELLER.special(cat)


def test_bytes_that_are_no_whole_character_are_written_out() -> None:
    assert [SPELLER.text(token) for token in _ids("é")] == ["\\xc3", "\\xa9"]


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_the_bytes_of_all_tokens_are_those_of_the_text(text: str) -> None:
    plain = text.replace("\\", "").replace("<", "")  # what is written out is then told from text
    read = b""
    for token in _ids(plain):
        spelled = SPELLER.text(token)
        read += _bytes(spelled) if spelled.startswith("\\x") else spelled.encode()
    assert read == plain.encode()


def test_a_vocabulary_of_pieces_with_bytes_for_the_rest_is_read_too() -> None:
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    speller = TokenSpeller(tokenizer)
    ids = tokenizer.backend_tokenizer.encode("the cat 🙂\n", add_special_tokens=False).ids
    spelled = [speller.text(token) for token in ids]
    assert "".join(spelled) == " the cat \\xf0\\x9f\\x99\\x82\n"


def test_a_vocabulary_of_unknown_kind_is_decoded() -> None:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1, "world": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    speller = TokenSpeller(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    assert [speller.text(token) for token in (1, 2, 0)] == ["hello", "world", "<unk>"]


def test_an_id_beyond_the_vocabulary_is_marked() -> None:
    assert SPELLER.text(10**6) == "<no token 1000000>"
