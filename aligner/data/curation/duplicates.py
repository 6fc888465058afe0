"""Leave out rows that repeat an earlier one, word for word or nearly."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy
from numpy.typing import NDArray

from aligner.data.context import DataContext
from aligner.data.curation.spec import Deduplicate
from aligner.data.ledger import Tally
from aligner.data.row_texts import prompt_text, turns_of
from aligner.data.rows import (
    ClassifiedText,
    LabeledCompletion,
    Preference,
    Row,
    ScoredCompletion,
    Text,
)
from aligner.errors import DataError
from aligner.registry import Message

Find = Callable[[Row], str]
"""Where the row stands that this one repeats, or nothing; a row that repeats none is remembered."""

UNKNOWN = "an earlier row"
"""How a row is named that does not know where it was written."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_MARKS = re.compile(r"[.,;:!?…]+(?=\s|\Z)|[\"'“”‘’«»`]")


def deduplicated(
    rows: Iterator[Row], how: Deduplicate, tally: Tally, *, context: DataContext, option: str
) -> Iterator[Row]:
    """The rows without those that repeat one before them; `tally` names each with the row it repeats.

    Memory holds a key for each row that is kept: 16 bytes and its origin, or its sketch.

    Raises:
        DataError: `near` needs a library that is not installed.
    """
    repeats = _near(how, context, option) if how.method == "near" else _exact(how)
    what = {
        "all": "repeats another row",
        "prompt": "asks what another row asks",
        "answer": "answers as another row does",
    }[how.of]
    reason = f"nearly {what}" if how.method == "near" else what
    contradicts = _conflicting() if how.conflicts == "drop" else lambda row: ""
    for row in rows:
        if first := repeats(row):
            tally.leave_out(reason, f"{row.origin} as {first}")
        elif first := contradicts(row):
            tally.leave_out("contradicts another row", f"{row.origin} against {first}")
        else:
            yield row


Said = tuple[str, str, str]
"""Where a text stands, whose it is, and the text."""


def _compared(row: Row, of: str) -> list[Said]:
    """The texts that make a row the same as another."""
    if of == "prompt":
        return [("", "", prompt_text(row))]
    if isinstance(row, Text | ClassifiedText):
        return [("", "", row.text), ("", "", getattr(row, "pair", None) or "")]
    return [
        (name, one["role"], _text(one))
        for name, messages in turns_of(row)
        for one in messages
        if of == "all" or one["role"] == "assistant"
    ]


def _text(message: Message) -> str:
    if not message.get("tool_calls"):
        return str(message["content"])
    calls = json.dumps(message["tool_calls"], sort_keys=True, default=str, ensure_ascii=False)
    return f"{message['content']} {calls}"


def _verdict(row: Row) -> str:
    """What is said of a text: the same text with another verdict is no repeat."""
    if isinstance(row, LabeledCompletion | ClassifiedText):
        return str(row.label)
    return str(row.score) if isinstance(row, ScoredCompletion) else ""


def _digest(said: Sequence[Said], verdict: str = "") -> bytes:
    whole = "\0".join([*("\1".join(one) for one in said), verdict])
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _exact(how: Deduplicate) -> Find:
    seen: dict[bytes, str] = {}

    def repeats(row: Row) -> str:
        said = _compared(row, how.of)
        if how.normalize:
            said = [(name, role, _normal(text)) for name, role, text in said]
        if not any(text for _, _, text in said):
            return ""
        key = _digest(said, _verdict(row) if how.of == "all" else "")
        if key in seen:
            return seen[key]
        seen[key] = row.origin or UNKNOWN
        return ""

    return repeats


def _normal(text: str) -> str:
    return " ".join(_MARKS.sub("", text.casefold()).split())


def _near(how: Deduplicate, context: DataContext, option: str) -> Find:
    try:
        from datasketch import MinHash, MinHashLSH  # an extra: only near repeats need it
    except ImportError:
        what = "finding near repeats needs datasketch, which is not installed"
        hint = "pip install aligner[curation], or use `deduplicate: exact`"
        raise DataError(what, where=context.at("deduplicate"), hint=hint) from None
    blank = MinHash(num_perm=how.permutations, hashfunc=zlib.crc32)
    near = MinHashLSH(threshold=how.threshold, num_perm=how.permutations)
    kept: list[tuple[str, str, NDArray[numpy.uint32]]] = []

    def repeats(row: Row) -> str:
        runs = shingles(row, how)
        if not runs:
            return ""
        sketch, verdict = blank.copy(), _verdict(row) if how.of == "all" else ""
        sketch.update_batch(sorted(runs))
        values = sketch.hashvalues
        for index in sorted(int(key) for key in near.query(sketch)):
            origin, other, before = kept[index]
            same = numpy.count_nonzero(values == before) / how.permutations
            if same >= how.threshold and other == verdict:
                return origin
        near.insert(len(kept), sketch)
        kept.append((row.origin or UNKNOWN, verdict, values))
        return ""

    return repeats


def shingles(row: Row, how: Deduplicate) -> set[bytes]:
    """The runs of words or characters whose share in common makes two rows near (Broder 1997).

    A run of the chosen answer is another than the same run of the rejected one. A text shorter than
    a run is one by itself.
    """
    runs: set[bytes] = set()
    between = " " if how.unit == "words" else ""
    for name, _, text in _compared(row, how.of):
        lead = f"{name}\0" if name in ("chosen", "rejected") else ""
        said = text.lower()
        units = _TOKEN.findall(said) if how.unit == "words" else " ".join(said.split())
        for start in range(max(1, len(units) - how.ngram + 1) if units else 0):
            run = lead + between.join(units[start : start + how.ngram])
            runs.add(run.encode("utf-8", "surrogatepass"))
    return runs


def _conflicting() -> Find:
    """What contradicts: the same pair the other way round, or the same text with another verdict."""
    seen: dict[bytes, tuple[str, str]] = {}

    def contradicts(row: Row) -> str:
        verdict = _verdict(row)
        if isinstance(row, Preference):
            sides = [
                _digest(_compared(replace(row, prompt=(), chosen=side, rejected=()), "all"))
                for side in (row.chosen, row.rejected)
            ]
            asked = _digest(_compared(row, "prompt")).hex()
            # The two answers in one order whichever is preferred; which is, is the verdict.
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
