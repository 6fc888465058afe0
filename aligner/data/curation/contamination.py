"""Leave out rows that share runs of words with the data a model is measured on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b, sha256

import numpy

from aligner.data.context import DataContext
from aligner.data.curation.reading import as_written
from aligner.data.ledger import Tally
from aligner.data.options import DataOptions, Decontaminate
from aligner.data.row_keys import prompt_key
from aligner.data.row_texts import prompt_text, texts_of
from aligner.data.rows import Row

# Signs of sums and code are words by themselves: 2 + 2 is not 2 - 2.
_TOKEN = re.compile(r"\w+|[^\w\s.,;:!?…\"'“”‘’«»`*_]")


@dataclass
class Runs:
    """What evaluation rows say, as hashes of runs of words: memory holds no text of theirs."""

    ngram: int
    origins: list[str] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    """The first evaluation row of each run."""
    prompts: dict[bytes, int] = field(default_factory=dict)
    """The first evaluation row of each prompt that is shorter than a run."""
    hash: str = ""
    """SHA-256 of the data sets the rows came from."""
    _words: dict[str, int] = field(default_factory=dict)

    def add(self, rows: Iterable[Row], *, common: int) -> None:
        """Remember the runs of `rows`, but for those that stand in more than `common` of them."""
        times: dict[int, int] = {}
        asked: set[str] = set()  # several answers to one prompt make no phrase of its words
        for row in rows:
            index = len(self.origins)
            self.origins.append(row.origin)
            known = (key := prompt_key(row)) in asked
            asked.add(key)
            for run in set(self.of(row)):
                self.runs.setdefault(run, index)
                times[run] = times.get(run, 0) + (not known)
            if (short := self.short(row)) is not None:
                self.prompts.setdefault(short, index)
        for run, number in times.items():
            if number > common:
                del self.runs[run]

    def of(self, row: Row) -> list[int]:
        """Hashes of all runs of words in the row's texts, the system's turns left out."""
        found: list[int] = []
        for _, role, text in texts_of(row):
            if role != "system":
                found += self._hashes(_TOKEN.findall(text.lower()))
        return found

    def short(self, row: Row) -> bytes | None:
        """A key of the row's prompt, where that is shorter than a run."""
        words = _TOKEN.findall(prompt_text(row).lower())
        if not words or len(words) >= self.ngram:
            return None
        return blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _hashes(self, words: list[str]) -> list[int]:
        """Of each run, the polynomial of its words' hashes modulo 2^64."""
        size = len(words) - self.ngram + 1
        if size < 1:
            return []
        each = numpy.array([self._word(word) for word in words], dtype=numpy.uint64)
        runs = numpy.zeros(size, dtype=numpy.uint64)
        for offset in range(self.ngram):
            runs = runs * _FACTOR + each[offset : offset + size]
        return [int(run) for run in runs.tolist()]

    def _word(self, word: str) -> int:
        if word not in self._words:
            digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            self._words[word] = int.from_bytes(digest)
        return self._words[word]


_FACTOR = numpy.uint64(0x9E3779B97F4A7C15)


def measured(options: DataOptions, how: Decontaminate, context: DataContext) -> Runs:
    """The runs of `eval_data` and of the data sets in `against`; read once a process.

    Raises:
        DataError: a data set is missing or malformed, or fits no format, or several.
    """
    sets = [("eval_data", spec) for spec in options.eval_data or ()]
    sets += [("decontaminate.against", spec) for spec in how.against or ()]
    named = " ".join(f"{option} {spec.model_dump_json()}" for option, spec in sets)
    key = f"measured {context.recipe_folder} {context.seed} {how.ngram} {how.common} {named}"
    if key not in context.memo:
        found, hashes = Runs(how.ngram), []
        for option, spec in sets:
            flow = as_written(spec, context, option)
            found.add(flow.rows(), common=how.common)
            hashes.append(flow.hash)
        found.hash = sha256(" ".join(hashes).encode()).hexdigest()
        context.memo[key] = found
    runs: Runs = context.memo[key]
    return runs


def decontaminated(
    rows: Iterator[Row], runs: Runs, how: Decontaminate, tally: Tally
) -> Iterator[Row]:
    """The rows that do not share too much with what is measured on; `tally` names what they share it with."""
    contaminated = _contaminated(runs, how)
    for row in rows:
        if other := contaminated(row):
            reason = "has words in common with evaluation data"
            tally.leave_out(reason, f"{row.origin} with {other}")
        else:
            yield row


def _contaminated(runs: Runs, how: Decontaminate) -> Callable[[Row], str]:
    """Where the first evaluation row stands that a row shares too much with, or nothing."""

    def by_runs(row: Row) -> str:
        short = runs.short(row)
        if short is not None and short in runs.prompts:
            return runs.origins[runs.prompts[short]] or UNKNOWN
        its = runs.of(row)
        shared = [run for run in its if run in runs.runs]
        if not shared or len(shared) <= how.share * len(its):
            return ""
        return runs.origins[runs.runs[shared[0]]] or UNKNOWN

    return by_runs


UNKNOWN = "an evaluation row"
"""How a row is named that does not know where it was written."""
