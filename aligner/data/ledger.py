"""Ledger of a data set: the number of rows and tokens that were read, left out, truncated and trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy

from aligner.data.describe import printable_name
from aligner.data.options import Limits
from aligner.errors import AlignerError, DataError

EXAMPLES = 5
"""Number of rows of each finding that are named."""

FINDINGS: Mapping[str, str] = {
    "skipped": "are malformed and were skipped",
    "dropped": "were dropped",
    "filtered": "were left out by operations of the recipe",
    "truncated": "are longer than max_length and were truncated",
    "nothing_trained": "have no trained token",
    "stop_untrained": "have a trained turn whose end-of-turn token is not trained",
    "role_order": "have turns in the wrong order",
    "left_out": "have content that the chat template omits",
    "double_bos": "begin with the beginning-of-sequence token twice",
    "unknown_tokens": "are unknown to the tokenizer",
    "shared_prompts": "have a prompt that is also trained on",
    "one_label": "all have the same label",
    "unseen_labels": "have a label that no row to train on has",
    "outliers": "are more than eight times as long as 99 of 100 rows, without a max_length",
    "duplicates": "repeat an earlier row",
    "special_text": "contain the text of a special token (it is tokenized as plain text)",
    "chosen_longer": "have the longer answer as the chosen one",
    "conflicts": "contradict another row's preference",
    "ties": "have a margin of 0",
    "empty_turns": "have an empty turn",
    "split": "were split because of their length or a template that rewrites earlier turns",
    "other_part": "are in another part",
    "not_sampled": "are not in the sample",
}
"""Phrase that ends the sentence "3 rows …" for each finding (`unknown_tokens`: "3 tokens …")."""

HINTS: Mapping[str, str] = {
    "skipped": "correct the rows",
    "dropped": "correct the rows, or raise max_length",
    "filtered": "change the operations",
    "truncated": "raise max_length, or set overflow to drop",
    "nothing_trained": "leave the rows out, or change what is trained on",
    "stop_untrained": "put the end-of-turn token inside the template's generation block",
    "role_order": "let user and assistant take turns, after one system turn at most",
    "left_out": "use a template that renders it",
    "double_bos": "remove the token from the template or the data",
    "unknown_tokens": "use a tokenizer made for this text",
    "shared_prompts": "remove the rows from one of the two",
    "one_label": "add rows of another label",
    "unseen_labels": "add such rows to the training data, or remove these",
    "outliers": "set max_length; overflow sets the treatment of longer rows",
}


@dataclass(frozen=True)
class Count:
    """Number of rows with a finding, and the origins of the first ones."""

    rows: int = 0
    first: tuple[str, ...] = ()
    detail: str = ""
    """Description of the first row, if there is one."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Number of rows and tokens of a data set at a step, by what happened to them."""

    name: str
    """Names of the files, hub data sets or sources."""
    formats: tuple[str, ...] = ()
    """Format of each data set."""
    read: int = 0
    """Number of rows in the files."""
    converted: int = 0
    """Number of rows after conversion, filtered rows included: a ranking becomes several pairs, a preference
    two labels."""
    used: int = 0
    """Number of rows that are trained or evaluated on."""
    skipped: Mapping[str, Count] = field(default_factory=dict)
    """Malformed rows, by error."""
    dropped: Mapping[str, Count] = field(default_factory=dict)
    """Other rows that were left out, by reason."""
    filtered: Mapping[str, Count] = field(default_factory=dict)
    """Rows left out by operations of the recipe, by reason; `part` and `sample` count under `found`."""
    found: Mapping[str, Count] = field(default_factory=dict)
    """Rows by finding, see `FINDINGS` and `phrases`."""
    lengths: Mapping[str, float] = field(default_factory=dict)
    """Tokens in a used row (of a pair: the prompt with the longer answer): min, median, mean, p90, p99
    and max."""
    tokens: int = 0
    """Number of tokens in the used rows, without padding."""
    trained: int = 0
    """Number of tokens that are trained."""
    truncated_tokens: int = 0
    unknown_tokens: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    """Number of rows of each label, if there are labels."""
    phrases: Mapping[str, str] = field(default_factory=dict)
    """Wording of the findings that row operations count, as in `FINDINGS`."""
    mixture: tuple[Mapping[str, Any], ...] = ()
    """For a mixture: name (`entry`), number of `rows` and rows `taken` in an epoch of each entry."""

    def rows(self, finding: str) -> int:
        """Return the number of rows (for `unknown_tokens`: tokens) with a finding."""
        if finding == "skipped":
            return sum(count.rows for count in self.skipped.values())
        if finding == "dropped":
            return sum(count.rows for count in self.dropped.values())
        if finding == "filtered":
            return sum(count.rows for count in self.filtered.values())
        if finding == "unknown_tokens":
            return self.unknown_tokens
        return self.found[finding].rows if finding in self.found else 0

    def errors(self, limits: Limits, where: str) -> list[AlignerError]:
        """Return an error at `where` for every finding above its limit."""
        errors: list[AlignerError] = []
        for finding in type(limits).model_fields:
            limit, count = getattr(limits, finding), self.rows(finding)
            whole = self._whole(finding)
            if limit < 1 and count > limit * whole:
                errors.append(self._error(finding, count, whole, limit, where))
        if not errors and self.read and not self.used:
            errors.append(DataError(f"{self.name}: no row is left to use", where=where))
        return errors

    def _whole(self, finding: str) -> int:
        if finding == "unknown_tokens":
            return self.tokens
        return self.read if finding == "skipped" else max(self.converted, 1)

    def _error(
        self, finding: str, count: int, whole: int, limit: float, where: str
    ) -> AlignerError:
        unit = "tokens" if finding == "unknown_tokens" else "rows"
        what = f"{self.name}: {count} of {whole} {unit} ({count / whole:.1%}) {FINDINGS[finding]}"
        what += f"; at most {limit:.1%} may be" if limit else ""
        for reason, found in self._reasons(finding).items():
            lead = f"{found.rows} {reason}: " if reason else ""
            more = ", …" if found.rows > len(found.first) else ""
            what += f"\n    {lead}{', '.join(found.first)}{more}"
            what += f" ({found.detail})" if found.detail else ""
        allow = f"allow it with `limits: {{{finding}: {min(1.0, count / whole + 0.005):.2f}}}`"
        advice = HINTS.get(finding)
        return DataError(what, where=where, hint=f"{advice}, or {allow}" if advice else allow)

    def _reasons(self, finding: str) -> Mapping[str, Count]:
        if finding in ("skipped", "dropped", "filtered"):
            return dict(getattr(self, finding))
        return {"": self.found[finding]} if finding in self.found else {}

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as values for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return a text of several lines for people."""
        written = f", written as {', '.join(self.formats)}" if self.formats else ""
        lines = [f"{self.name}: {self.read} rows read{written}; {self.used} used"]
        for finding in ("skipped", "dropped", "filtered"):
            for reason, count in self._reasons(finding).items():
                lines.append(f"  {count.rows} {finding}: {reason} ({_places(count)})")
        lines += [
            f"  {count.rows} {FINDINGS.get(name) or self.phrases[name]} ({_places(count)})"
            for name, count in self.found.items()
        ]
        if self.mixture:
            parts = [f"{m['taken']} of {m['entry']} (of {m['rows']})" for m in self.mixture]
            lines.append(f"  mixed in one pass: {', '.join(parts)}")
        if self.labels:
            lines.append(
                "  " + ", ".join(f"{n} {printable_name(name)}" for name, n in self.labels.items())
            )
        if self.tokens:
            share = self.trained / self.tokens
            truncated = f", {self.truncated_tokens} truncated" if self.truncated_tokens else ""
            unknown = f", {self.unknown_tokens} unknown" if self.unknown_tokens else ""
            lines.append(
                f"  {self.tokens} tokens, {self.trained} trained ({share:.0%}){truncated}{unknown}"
            )
            spread = ", ".join(f"{name} {value:g}" for name, value in self.lengths.items())
            lines.append(f"  tokens a row: {spread}")
        return "\n".join(lines)


def _places(count: Count) -> str:
    more = ", …" if count.rows > len(count.first) else ""
    detail = f": {count.detail}" if count.detail else ""
    return f"{', '.join(count.first)}{more}{detail}"


class Tally:
    """Counts while rows are read; they become a `Ledger` after the last row."""

    def __init__(self) -> None:
        self.skipped: dict[str, Count] = {}
        self.dropped: dict[str, Count] = {}
        self.filtered: dict[str, Count] = {}
        self.found: dict[str, Count] = {}
        self.phrases: dict[str, str] = {}

    def skip(self, reason: str, origin: str) -> None:
        count_row(self.skipped, reason, origin)

    def drop(self, reason: str, origin: str) -> None:
        count_row(self.dropped, reason, origin)

    def leave_out(self, reason: str, origin: str) -> None:
        """Count a row that an operation of the recipe leaves out."""
        count_row(self.filtered, reason, origin)

    def find(self, finding: str, origin: str, detail: str = "") -> None:
        assert finding in FINDINGS, finding
        count_row(self.found, finding, origin, detail)

    def find_described(self, finding: str, phrase: str, origin: str) -> None:
        """Count a row under a finding of a row operation, which brings its own wording."""
        self.phrases[finding] = phrase
        count_row(self.found, finding, origin)


def count_row(counts: dict[str, Count], name: str, origin: str, detail: str = "") -> None:
    """Count another row under `name`, and keep the origins of the first rows."""
    before = counts.get(name, Count(detail=detail))
    first = before.first if len(before.first) >= EXAMPLES else (*before.first, origin)
    counts[name] = Count(before.rows + 1, first, before.detail)


def merge_counts(counts: Mapping[str, Count], other: Mapping[str, Count]) -> dict[str, Count]:
    """Return the sum of two sets of counts."""
    summed = dict(counts)
    for name, count in other.items():
        before = summed.get(name, Count())
        first = (*before.first, *count.first)[:EXAMPLES]
        summed[name] = Count(before.rows + count.rows, first, before.detail or count.detail)
    return summed


def summarize_lengths(lengths: Iterable[int]) -> dict[str, float]:
    """Return minimum, median, mean, 90th and 99th percentile, and maximum of `lengths`.

    >>> summarize_lengths([1, 2, 3, 4])
    {'min': 1, 'median': 2, 'mean': 2.5, 'p90': 4, 'p99': 4, 'max': 4}
    """
    ordered = numpy.sort(numpy.fromiter(lengths, dtype=numpy.int32))
    if not len(ordered):
        return {}

    def at(share: float) -> int:
        return int(ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)])

    return {
        "min": int(ordered[0]),
        "median": at(0.5),
        "mean": round(int(ordered.sum(dtype=numpy.int64)) / len(ordered), 1),
        "p90": at(0.9),
        "p99": at(0.99),
        "max": int(ordered[-1]),
    }


def ledger_from_json(raw: Mapping[str, Any]) -> Ledger:
    """Return the ledger that `as_dict` wrote, read back from JSON."""
    counted = {
        part: {
            n: Count(count["rows"], tuple(count["first"]), count["detail"])
            for n, count in raw[part].items()
        }
        for part in ("skipped", "dropped", "filtered", "found")
    }
    rest = {"formats": tuple(raw["formats"]), "mixture": tuple(raw["mixture"])}
    return Ledger(**{**raw, **counted, **rest})
