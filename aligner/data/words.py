"""Remember the token ids of words, for tokenizers that part texts into words and read each by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import chain, pairwise, product
from typing import Any

from tokenizers import Tokenizer, models

Ids = tuple[int, ...]

# Characters of which every version of Unicode that a library may have says the same, that no
# normalisation changes, alone or side by side: what follows can be read with Python's expressions.
LETTERS = (
    "A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e\u0400-\u0481\u048a-\u04ff"
)
NUMBERS = "0-9\u00b2\u00b3\u00b9\u00bc-\u00be"
SPACES = "\t-\r \u0085\u00a0"
OTHERS = "\u00a1-\u00bf\u00d7\u00f7\u2010-\u2027\u20ac\u2122\U0001f300-\U0001f64f"
UNSURE = re.compile(f"[^\x00-\u00a0{LETTERS}{OTHERS}]")

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How a byte-level pre-tokenizer parts texts where it has no expression before it (Radford 2019)."""

_PARTS = re.compile(r"\\p\{[LN]\}|\\[sSrn]|\(\?(?:i:|:|!)|\{1,[23]\}|[A-Za-z' |()^*+?\[\]]")
_TIMES = ("*", "+", "?", "{1,2}", "{1,3}")
_CLASSES = {r"\p{L}": LETTERS, r"\p{N}": NUMBERS, r"\s": SPACES}

MOST, LONGEST = 1 << 18, 48
"""Words that are remembered, and characters in the longest of them."""
TOGETHER = 200
"""New words that are read as one text."""
ENOUGH = 32
"""Texts in a batch that are worth it."""


class Words:
    """The ids of the words of one tokenizer."""

    def __init__(self, backend: Tokenizer, word: re.Pattern[str]) -> None:
        """Use `words_of`, which knows whether the tokenizer is of this kind."""
        self._backend, self._word = backend, word
        added = backend.get_added_tokens_decoder()
        plain = {
            token.content: index
            for index, token in added.items()
            if token.special
            and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
        }
        self._special = _any_of(plain)
        # What is found in texts by other rules is left to the tokenizer.
        self._odd = _any_of(
            {token.content for token in added.values() if token.content not in plain}
        )
        self._indices = plain
        self._known: dict[str | int, Ids] = {index: (index,) for index in plain.values()}
        self._agrees: bool | None = None
        # New words are read many at once, one on each line; the end of a line is a token of its own.
        ends = self._plain(["\n"], literal=True)[0]
        alone = [backend.id_to_token(one) for one in ends] == ["Ċ"]
        self._line = ends[0] if alone else None

    def encode(self, texts: Sequence[str], *, literal: bool) -> list[list[int]]:
        """The ids of each text.

        Args:
            texts: The same as the tokenizer would get.
            literal: Read special tokens as the text that they spell.
        """
        if self._agrees is None:
            self._agrees = self._encode(PROBES, literal) == self._plain(PROBES, literal)
        if not self._agrees:
            return self._plain(texts, literal)
        return self._encode(texts, literal)

    def _encode(self, texts: Sequence[str], literal: bool) -> list[list[int]]:
        get = self._known.__getitem__
        ids: list[list[int]] = [[]] * len(texts)
        waiting: list[tuple[int, list[str | int]]] = []
        left: list[int] = []
        new: set[str | int] = set()
        for place, text in enumerate(texts):
            if self._odd.search(text) or not (text.isascii() or UNSURE.search(text) is None):
                left.append(place)
                continue
            words = self._words(text, literal)
            try:
                ids[place] = list(chain.from_iterable(map(get, words)))
            except KeyError:
                waiting.append((place, words))
                new.update(words)
        self._learn(new.difference(self._known))
        for place, words in waiting:
            try:
                ids[place] = list(chain.from_iterable(map(get, words)))
            except KeyError:
                left.append(place)
        if left:
            rest = self._plain([texts[place] for place in left], literal)
            for place, one in zip(left, rest, strict=True):
                ids[place] = one
        self._forget(new)
        return ids

    def _words(self, text: str, literal: bool) -> list[str | int]:
        find: Any = self._word.findall
        if literal or self._special.search(text) is None:
            words: list[str | int] = find(text)
            return words
        words = []
        start = 0
        for match in self._special.finditer(text):
            words += find(text[start : match.start()])
            words.append(self._indices[match.group()])
            start = match.end()
        words += find(text[start:])
        return words

    def _learn(self, words: set[Any]) -> None:
        """Know the ids of new words, but of those that would be parted if they stood alone."""
        lines: list[list[str]] = []
        ending = [word for word in words if self._line is not None and word[-1].isalnum()]
        single = list(words.difference(ending))
        for start in range(0, len(ending), TOGETHER):
            some = ending[start : start + TOGETHER]
            whole = self._word.findall("\n".join(some))
            if whole[::2] == some and set(whole[1::2]) <= {"\n"}:
                lines.append(some)
            else:
                single += some
        single = [word for word in single if self._word.findall(word) == [word]]
        texts = ["\n".join(some) for some in lines]
        made = self._plain([*texts, *single], literal=True) if words else []
        for some, ids in zip(lines, made, strict=False):
            self._known.update(zip(some, _parted(ids, self._line), strict=True))
        self._known.update(zip(single, map(tuple, made[len(lines) :]), strict=True))

    def _forget(self, words: set[Any]) -> None:
        """Keep what is known small."""
        if len(self._known) > MOST:
            self._known.clear()
            self._known.update((index, (index,)) for index in self._indices.values())
        for word in words:
            if type(word) is str and len(word) > LONGEST:
                self._known.pop(word, None)

    def _plain(self, texts: Sequence[str], literal: bool) -> list[list[int]]:
        return plain_ids(self._backend, texts, literal=literal)


def _parted(ids: list[int], at: int | None) -> list[Ids]:
    made, start = [], 0
    for place, one in enumerate(ids):
        if one == at:
            made.append(tuple(ids[start:place]))
            start = place + 1
    return [*made, tuple(ids[start:])]


def plain_ids(backend: Tokenizer, texts: Sequence[str], *, literal: bool) -> list[list[int]]:
    """The ids that the tokenizer itself gives texts, nothing added to them."""
    backend.encode_special_tokens = literal
    try:
        return [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = False


def words_of(backend: Tokenizer) -> Words | None:
    """Words of a tokenizer that reads each by itself, whatever stands around it; else None."""
    if not isinstance(backend.model, models.BPE) or backend.model.dropout:
        return None
    if backend.normalizer is not None:
        added = backend.get_added_tokens_decoder().values()
        if _state(backend.normalizer) != {"type": "NFC"} or not all(
            token.content.isascii() or not token.normalized for token in added
        ):
            return None
    word = _word(_state(backend.pre_tokenizer)) if backend.pre_tokenizer is not None else None
    return None if word is None else Words(backend, word)


def _state(part: Any) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(part.__getstate__())
    return state


def _word(state: dict[str, Any]) -> re.Pattern[str] | None:
    """What matches the words that a pre-tokenizer parts texts into, where that is known for certain."""
    steps = state["pretokenizers"] if state["type"] == "Sequence" else [state]
    last = steps[-1]
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if len(steps) == 1 and last["use_regex"]:
        return _translated(GPT2)
    first = steps[0]
    if len(steps) != 2 or last["use_regex"] or first["type"] != "Split":
        return None
    pattern = first["pattern"].get("Regex")
    if first["behavior"] != "Isolated" or first["invert"] or pattern is None:
        return None
    return _translated(pattern)


def _translated(pattern: str) -> re.Pattern[str] | None:
    """A tokenizer's expression as one of Python's, for texts without `UNSURE` characters.

    None where it holds anything that the two libraries may read in two ways.
    """
    parts = _PARTS.findall(pattern)
    twice = any(one in _TIMES and two in _TIMES for one, two in pairwise(parts))
    if "".join(parts) != pattern or twice:
        return None
    within = False
    made: list[str] = []
    for part in parts:
        if part in _CLASSES:
            made.append(_CLASSES[part] if within else f"[{_CLASSES[part]}]")
        elif part == r"\S":
            if within:
                return None
            made.append(f"[^{SPACES}]")
        else:
            within = part == "[" or (within and part != "]")
            made.append(part)
    return re.compile("".join(made))


def _any_of(texts: Any) -> re.Pattern[str]:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


_KINDS = ["a", "s", "S", "re", "'", " ", "\n", "\r", "\x0b", "\x1c", "1", "<"]
_KINDS += ["\u00e9", "\u2014", "\u00a0", "\u00b2", "\U0001f600"]
PROBES = ["".join(chain.from_iterable(product([one], _KINDS, _KINDS))) for one in _KINDS]
"""Every three kinds of characters beside one another."""
