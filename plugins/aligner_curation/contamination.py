"""Leave out rows that share n-grams of words with evaluation data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import numpy

from aligner import OperationContext, RowOperation
from aligner.kit.rows import Row, prompt_key, prompt_text, texts_of
from aligner_curation.options import Decontaminate

# Operators of formulas and code are words of their own: 2 + 2 differs from 2 - 2.
_TOKEN = re.compile(r"\w+|[^\w\s.,;:!?…\"'“”‘’«»`*_]")
_FACTOR = numpy.uint64(0x9E3779B97F4A7C15)

UNKNOWN = "an evaluation row"
"""Name of a row without an origin."""


class NgramIndex:
    """N-grams of evaluation rows, as hashes: memory holds no text."""

    def __init__(self, ngram: int) -> None:
        self.ngram = ngram
        self.origins: list[str] = []
        self.ngrams: dict[int, int] = {}
        """First evaluation row of each n-gram."""
        self.prompts: dict[bytes, int] = {}
        """First evaluation row of each prompt that is shorter than an n-gram."""
        self._words: dict[str, int] = {}

    def add(self, rows: Iterable[Row], *, common: int) -> None:
        """Add the n-grams of `rows`, except for those that occur in more than `common` of them."""
        occurrences: dict[int, int] = {}
        prompts: set[str] = set()  # several answers to one prompt do not make a phrase of its words
        for row in rows:
            index = len(self.origins)
            self.origins.append(row.origin)
            is_repeated = (key := prompt_key(row)) in prompts
            prompts.add(key)
            for ngram in set(self.ngrams_of(row)):
                self.ngrams.setdefault(ngram, index)
                occurrences[ngram] = occurrences.get(ngram, 0) + (not is_repeated)
            if (short := self.short_prompt(row)) is not None:
                self.prompts.setdefault(short, index)
        for ngram, number in occurrences.items():
            if number > common:
                del self.ngrams[ngram]

    def ngrams_of(self, row: Row) -> list[int]:
        """Return hashes of all n-grams in the texts of the row, without system turns."""
        hashes: list[int] = []
        for _, role, text in texts_of(row):
            if role != "system":
                hashes += self._hashes(_TOKEN.findall(text.lower()))
        return hashes

    def short_prompt(self, row: Row) -> bytes | None:
        """Return a key of the row's prompt if that is shorter than an n-gram."""
        words = _TOKEN.findall(prompt_text(row).lower())
        if not words or len(words) >= self.ngram:
            return None
        return blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _hashes(self, words: list[str]) -> list[int]:
        """Return for each n-gram the polynomial of its words' hashes modulo 2^64."""
        size = len(words) - self.ngram + 1
        if size < 1:
            return []
        word_hashes = numpy.array([self._word_hash(word) for word in words], dtype=numpy.uint64)
        hashes = numpy.zeros(size, dtype=numpy.uint64)
        for offset in range(self.ngram):
            hashes = hashes * _FACTOR + word_hashes[offset : offset + size]
        return [int(value) for value in hashes.tolist()]

    def _word_hash(self, word: str) -> int:
        if word not in self._words:
            digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            self._words[word] = int.from_bytes(digest)
        return self._words[word]


class DecontaminateRows(RowOperation):
    """Leave out rows that share word sequences with `eval_data` or with other named data sets.

    `true` compares with `eval_data` alone.
    """

    name = "decontaminate"
    Options = Decontaminate
    scope = "step"
    order = 20
    compares = True

    def index(self, references: Iterable[Iterable[Row]]) -> NgramIndex:
        """Return the n-grams of all evaluation rows."""
        index = NgramIndex(self.options.ngram)
        for rows in references:
            index.add(rows, common=self.options.common)
        return index

    def apply(self, rows: Iterator[Row], context: OperationContext) -> Iterator[Row]:
        """Yield the rows without too much overlap; the ledger names the evaluation row of the others."""
        find_source = _overlap(context.index, self.options)
        for row in rows:
            if source := find_source(row):
                reason = "has words in common with evaluation data"
                context.ledger.leave_out(reason, f"{row.origin} with {source}")
            else:
                yield row


def _overlap(index: NgramIndex, options: Decontaminate) -> Callable[[Row], str]:
    """Return a search for the origin of the first evaluation row that a row overlaps too much with."""

    def find_source(row: Row) -> str:
        short = index.short_prompt(row)
        if short is not None and short in index.prompts:
            return index.origins[index.prompts[short]] or UNKNOWN
        ngrams = index.ngrams_of(row)
        shared = [ngram for ngram in ngrams if ngram in index.ngrams]
        if not shared or len(shared) <= options.share * len(ngrams):
            return ""
        return index.origins[index.ngrams[shared[0]]] or UNKNOWN

    return find_source
