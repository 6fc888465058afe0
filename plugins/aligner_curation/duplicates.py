"""Leave out rows that repeat an earlier row, exactly or nearly."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy
from numpy.typing import NDArray

from aligner import OperationContext, RowOperation
from aligner.kit.declare import DataError
from aligner.kit.rows import (
    ClassifiedText,
    LabeledCompletion,
    Message,
    Preference,
    Row,
    ScoredCompletion,
    Text,
    prompt_text,
    turns_of,
)
from aligner_curation.options import Deduplicate

FindEarlier = Callable[[Row], str]
"""Returns the origin of the earlier row that a row repeats; without one, remembers the row."""

UNKNOWN = "an earlier row"
"""Name of a row without an origin."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_MARKS = re.compile(r"[.,;:!?…]+(?=\s|\Z)|[\"'“”‘’«»`]")


class DeduplicateRows(RowOperation):
    """Leave out rows that repeat an earlier row: `true` or `exact`, `near`, or options."""

    name = "deduplicate"
    Options = Deduplicate
    scope = "step"
    order = 10

    def apply(self, rows: Iterator[Row], context: OperationContext) -> Iterator[Row]:
        """Yield the rows that repeat none before them; the ledger names the others and what they repeat.

        Memory holds a key for each row that is kept: 16 bytes and its origin, or its MinHash.

        Raises:
            DataError: `near` needs a library that is not installed.
        """
        options: Deduplicate = self.options
        near = options.method == "near"
        find_repeated = _near(options, context) if near else _exact(options)
        find_contradicted = _conflicting() if options.conflicts == "drop" else lambda row: ""
        reason = {
            "all": "repeats another row",
            "prompt": "has the prompt of another row",
            "answer": "has the answers of another row",
        }[options.of]
        reason = f"nearly {reason}" if near else reason
        for row in rows:
            if first := find_repeated(row):
                context.ledger.leave_out(reason, f"{row.origin} as {first}")
            elif first := find_contradicted(row):
                context.ledger.leave_out("contradicts another row", f"{row.origin} against {first}")
            else:
                yield row


ComparedText = tuple[str, str, str]
"""Field that contains a text, role of its turn, and the text."""


def _compared(row: Row, of: str) -> list[ComparedText]:
    """Return the texts that must be equal for rows to be repeats."""
    if of == "prompt":
        return [("", "", prompt_text(row))]
    if isinstance(row, Text | ClassifiedText):
        return [("", "", row.text), ("", "", getattr(row, "pair", None) or "")]
    return [
        (name, message["role"], _text(message))
        for name, messages in turns_of(row)
        for message in messages
        if of == "all" or message["role"] == "assistant"
    ]


def _text(message: Message) -> str:
    if not message.get("tool_calls"):
        return str(message["content"])
    calls = json.dumps(message["tool_calls"], sort_keys=True, default=str, ensure_ascii=False)
    return f"{message['content']} {calls}"


def _verdict(row: Row) -> str:
    """Return the label or score of a row: the same text with another one is no repeat."""
    if isinstance(row, LabeledCompletion | ClassifiedText):
        return str(row.label)
    return str(row.score) if isinstance(row, ScoredCompletion) else ""


def _digest(texts: Sequence[ComparedText], verdict: str = "") -> bytes:
    whole = "\0".join([*("\1".join(text) for text in texts), verdict])
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _exact(options: Deduplicate) -> FindEarlier:
    seen: dict[bytes, str] = {}

    def repeats(row: Row) -> str:
        texts = _compared(row, options.of)
        if options.normalize:
            texts = [(name, role, _normalize(text)) for name, role, text in texts]
        if not any(text for _, _, text in texts):
            return ""
        key = _digest(texts, _verdict(row) if options.of == "all" else "")
        if key in seen:
            return seen[key]
        seen[key] = row.origin or UNKNOWN
        return ""

    return repeats


def _normalize(text: str) -> str:
    return " ".join(_MARKS.sub("", text.casefold()).split())


def _near(options: Deduplicate, context: OperationContext) -> FindEarlier:
    try:
        from datasketch import MinHash, MinHashLSH  # an optional dependency
    except ImportError:
        what = "finding near repeats needs datasketch, which is not installed"
        hint = "pip install aligner[curation], or use `deduplicate: exact`"
        raise DataError(what, where=context.where, hint=hint) from None
    blank = MinHash(num_perm=options.permutations, hashfunc=zlib.crc32)
    near = MinHashLSH(threshold=options.threshold, num_perm=options.permutations)
    kept: list[tuple[str, str, NDArray[numpy.uint32]]] = []

    def repeats(row: Row) -> str:
        ngrams = shingles(row, options)
        if not ngrams:
            return ""
        sketch, verdict = blank.copy(), _verdict(row) if options.of == "all" else ""
        sketch.update_batch(sorted(ngrams))
        values = sketch.hashvalues
        for index in sorted(int(key) for key in near.query(sketch)):
            origin, other, before = kept[index]
            same = numpy.count_nonzero(values == before) / options.permutations
            if same >= options.threshold and other == verdict:
                return origin
        near.insert(len(kept), sketch)
        kept.append((row.origin or UNKNOWN, verdict, values))
        return ""

    return repeats


def shingles(row: Row, options: Deduplicate) -> set[bytes]:
    """Return the n-grams of words or characters of a row, whose overlap makes rows near (Broder 1997).

    The same n-gram in a chosen and in a rejected answer counts as two. A shorter text is one n-gram.
    """
    ngrams: set[bytes] = set()
    between = " " if options.unit == "words" else ""
    for name, _, text in _compared(row, options.of):
        lead = f"{name}\0" if name in ("chosen", "rejected") else ""
        lower = text.lower()
        units = _TOKEN.findall(lower) if options.unit == "words" else " ".join(lower.split())
        for start in range(max(1, len(units) - options.ngram + 1) if units else 0):
            ngram = lead + between.join(units[start : start + options.ngram])
            ngrams.add(ngram.encode("utf-8", "surrogatepass"))
    return ngrams


def _conflicting() -> FindEarlier:
    """Return a search for contradictions: a pair the other way round, or a text with another label."""
    seen: dict[bytes, tuple[str, str]] = {}

    def contradicts(row: Row) -> str:
        verdict = _verdict(row)
        if isinstance(row, Preference):
            sides = [
                _digest(_compared(replace(row, prompt=(), chosen=side, rejected=()), "all"))
                for side in (row.chosen, row.rejected)
            ]
            asked = _digest(_compared(row, "prompt")).hex()
            # Both answers in an order that does not depend on the preference, which is the verdict.
            key, verdict = (
                _digest([("", asked, min(sides).hex()), ("", "", max(sides).hex())]),
                sides[0].hex(),
            )
        elif verdict:
            key = _digest(_compared(row, "all"))
        else:
            return ""
        before, first = seen.setdefault(key, (verdict, row.origin or UNKNOWN))
        return first if before != verdict else ""

    return contradicts
