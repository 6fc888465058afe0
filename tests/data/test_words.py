"""Remembered words give the tokens that the tokenizer itself gives, or are not used."""

from __future__ import annotations

import random
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre

from aligner.data import words as module
from aligner.data.tokenizers import train_tokenizer
from aligner.data.words import ENOUGH, Words, plain_ids, words_of

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
TEXTS = [
    "the cat's hats, they'll sit. 12 345 hellos\n\n  naïve Жук — “ok” (x)",
    "<|a|> the them",
] * 9


def tokenizer(first: Any, normalizer: Any = None) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.normalizer, made.decoder = first, normalizer, decoders.ByteLevel()
    alphabet = sorted(pre.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    made.add_special_tokens(["<|end|>", "<|e", "[X]"])
    return made


def split(pattern: str) -> Any:
    whole = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"), whole])


def odd() -> Tokenizer:
    """With tokens that are looked for by rules of their own."""
    made = tokenizer(pre.ByteLevel(add_prefix_space=False))
    made.add_tokens(["cat", AddedToken("sit", single_word=True)])
    made.add_special_tokens([AddedToken("<l>", lstrip=True, rstrip=True)])
    return made


KNOWN = {
    "gpt-2": lambda: tokenizer(pre.ByteLevel(add_prefix_space=False)),
    "llama-3": lambda: tokenizer(split(LLAMA_3)),
    "qwen": lambda: tokenizer(split(QWEN), normalizers.NFC()),
    "odd tokens": odd,
    "ours": lambda: train_tokenizer(TEXTS, 340, special=("<|end|>",)).backend_tokenizer,
}
PARTS = [
    "the", "cat", "'s", "'LL", "12", "3456", " ", "  ", "\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\xa0",
    "<|end|>", "<|e", "<s>", "<l>", "[X]", "sit", ".", ",", "(", "_", "é", "Ж", "—", "²", "ſ", "K", "e\u0301",
    "中文", "😀", "\u2028", "", "\x00", "ǆ", "ª",
]  # fmt: skip


@pytest.fixture(params=KNOWN, scope="module")
def known(request: pytest.FixtureRequest) -> tuple[Tokenizer, Words]:
    made = KNOWN[request.param]()
    words = words_of(made)
    assert words is not None
    return made, words


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(PARTS), max_size=9).map("".join), max_size=6),
    literal=st.booleans(),
)
def test_the_ids_are_those_of_the_tokenizer(
    known: tuple[Tokenizer, Words], texts: list[str], literal: bool
) -> None:
    backend, words = known
    expected = plain_ids(backend, texts, literal=literal)
    assert words.encode(texts, literal=literal) == expected
    assert words._agrees, "or the tokenizer was asked"
    assert words.encode(texts, literal=literal) == expected, "now that the words are known"


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=20), max_size=5))
def test_so_are_they_of_any_text(known: tuple[Tokenizer, Words], texts: list[str]) -> None:
    backend, words = known
    assert words.encode(texts, literal=False) == plain_ids(backend, texts, literal=False)


def test_what_is_known_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 400)
    backend = KNOWN["gpt-2"]()
    words = words_of(backend)
    assert words is not None
    draw = random.Random(1)
    for _ in range(20):
        texts = [f"<s>{draw.randrange(10**9)} {'a' * 60}{draw.random()}" for _ in range(40)]
        assert words.encode(texts, literal=False) == plain_ids(backend, texts, literal=False)
        assert len(words._known) <= 400
        assert all(len(one) <= module.LONGEST for one in words._known if isinstance(one, str))


def _sampling() -> Tokenizer:
    made = KNOWN["gpt-2"]()
    made.model.dropout = 0.5
    return made


UNKNOWN = {
    "a space before texts": lambda: tokenizer(pre.ByteLevel(add_prefix_space=True)),
    "no words": lambda: tokenizer(pre.ByteLevel(add_prefix_space=False, use_regex=False)),
    "two rules": lambda: tokenizer(pre.Sequence([pre.Digits(), pre.ByteLevel(add_prefix_space=False)])),
    "metaspace": lambda: tokenizer(pre.Metaspace()),
    "lower case": lambda: tokenizer(pre.ByteLevel(add_prefix_space=False), normalizers.Lowercase()),
    "classes of case": lambda: tokenizer(split(r"\p{Lu}+|\p{Ll}+")),
    "possessive": lambda: tokenizer(split(r"\p{L}++|.")),
    "removed": lambda: tokenizer(
        pre.Sequence([
            pre.Split(Regex(LLAMA_3), "removed"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
    ),
    "random": _sampling,
    "no pre-tokenizer": lambda: Tokenizer(models.BPE()),
    "no pairs": lambda: Tokenizer(models.Unigram()),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_tokenizer_that_may_read_words_otherwise_is_left_to_itself(name: str) -> None:
    assert words_of(UNKNOWN[name]()) is None


def test_words_that_a_tokenizer_reads_otherwise_are_found_out_before_they_are_used() -> None:
    backend = KNOWN["gpt-2"]()
    wrong = Words(backend, module._translated(QWEN))  # type: ignore[arg-type]
    texts = ["don't  stop\n\n12 go!\n"] * ENOUGH
    assert wrong.encode(texts, literal=False) == plain_ids(backend, texts, literal=False)
    assert wrong._agrees is False


def test_characters_are_what_unicode_says_they_are() -> None:
    letters, numbers, spaces = (
        module.re.compile(f"[{one}]") for one in (module.LETTERS, module.NUMBERS, module.SPACES)
    )
    for code in [*range(0xD800), *range(0xE000, 0x20000)]:
        one = chr(code)
        if module.UNSURE.match(one):
            continue
        kind = unicodedata.category(one)
        assert bool(letters.match(one)) == kind.startswith("L"), hex(code)
        assert bool(numbers.match(one)) == kind.startswith("N"), hex(code)
        # These four are spaces to Python alone.
        assert bool(spaces.match(one)) == (one.isspace() and not 0x1C <= code <= 0x1F), hex(code)
        assert unicodedata.normalize("NFC", one) == one, hex(code)
        assert not unicodedata.combining(one), hex(code)
