"""Find repeated rows, contradicting pairs and shared prompts among all rows of an option."""

from __future__ import annotations

from hashlib import sha256

from aligner.data.ledger import Count, Tally
from aligner.data.row_keys import content_key, prompt_key
from aligner.data.rows import ClassifiedText, LabeledCompletion, Preference, Row
from aligner.data.store.digest_set import DigestSet, digest_prefix

_AT_ONCE = 1000
"""Number of rows that are looked up together."""


class CrossRowChecks:
    """Search for repeats and contradictions; keeps 8 bytes of each row, and 16 more of each pair."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.labels: dict[str, int] = {}
        self.rows = 0
        self._contents, self._pairs = DigestSet(), DigestSet()
        self._waiting: list[tuple[str, int, tuple[int, int] | None]] = []

    def see(self, row: Row) -> None:
        self.rows += 1
        if isinstance(row, ClassifiedText | LabeledCompletion):
            self.labels[str(row.label)] = self.labels.get(str(row.label), 0) + 1
        pair = _both_ways(row) if isinstance(row, Preference) else None
        self._waiting.append((row.origin, digest_prefix(content_key(row)), pair))
        if len(self._waiting) == _AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Count the rows that wait to be looked up."""
        repeated = self._contents.add([content for _, content, _ in self._waiting])
        pairs = [pair for _, _, pair in self._waiting if pair is not None]
        contradicted = iter(self._pairs.has([other for _, other in pairs]))
        here: set[int] = set()
        for (origin, _, pair), again in zip(self._waiting, repeated, strict=True):
            if again:
                self.tally.find("duplicates", origin)
            if pair is not None:
                if next(contradicted) or pair[1] in here:
                    self.tally.find("conflicts", origin)
                here.add(pair[0])
        self._pairs.add([pair for pair, _ in pairs])
        self._waiting.clear()


def _both_ways(row: Preference) -> tuple[int, int]:
    """Return digests of a pair, and of the pair that prefers the other answer."""
    prompt, sides = prompt_key(row), (str(row.chosen), str(row.rejected))
    pair, other = (
        sha256(repr((prompt, *order)).encode("utf-8", "surrogatepass")).digest()
        for order in (sides, sides[::-1])
    )
    return digest_prefix(pair), digest_prefix(other)


class SharedPrompts:
    """Search for evaluation rows whose prompt is also trained on."""

    def __init__(self) -> None:
        self._trained, self._tally = DigestSet(), Tally()
        self._waiting: list[tuple[str, int]] = []
        self._measuring = False

    def train(self, row: Row) -> None:
        self._note(row, measuring=False)

    def measure(self, row: Row) -> None:
        self._note(row, measuring=True)

    def found(self) -> dict[str, Count]:
        self._settle()
        return self._tally.found

    def _note(self, row: Row, *, measuring: bool) -> None:
        if measuring != self._measuring or len(self._waiting) == _AT_ONCE:
            self._settle()
        self._measuring = measuring
        key = prompt_key(row).encode("utf-8", "surrogatepass")
        self._waiting.append((row.origin, digest_prefix(sha256(key).digest())))

    def _settle(self) -> None:
        digests = [digest for _, digest in self._waiting]
        if not self._measuring:
            self._trained.add(digests)
        else:
            for (origin, _), there in zip(self._waiting, self._trained.has(digests), strict=True):
                if there:
                    self._tally.find("shared_prompts", origin)
        self._waiting.clear()
