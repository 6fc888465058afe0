"""Load data sets as rows of the kind a stage needs, every row accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aligner.data.convert import Different
from aligner.data.kinds import as_kind, content_key, is_empty, prompt_key
from aligner.data.ledger import Count, Ledger, Tally, together
from aligner.data.made import made_hash
from aligner.data.messages import Malformed, found, order_fault, shown
from aligner.data.place import Place
from aligner.data.recognise import recognise
from aligner.data.rows import Classified, Conversation, Labelled, Messages, Preference, Prompt, Row
from aligner.data.sources import open_rows
from aligner.data.spec import DataSpec
from aligner.data.tables import Placed
from aligner.errors import AlignerError, DataError, Faults, did_you_mean
from aligner.offers import DataFormat, RowKind

__all__ = ["Loaded", "Skipped", "hold_out", "load"]

NAMED = 20
"""Malformed rows that are named one by one before the rest is only counted."""


@dataclass(frozen=True)
class Skipped:
    """A malformed row that was left out, to be saved for who wants to correct it."""

    origin: str
    reason: str
    row: Any


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Rows of one kind, and the account of where they came from."""

    rows: tuple[Row, ...]
    hash: str
    """SHA-256 of the content that was read and of the options that determine the rows."""
    ledger: Ledger
    skipped: tuple[Skipped, ...] = ()


def load(specs: Sequence[DataSpec], *, want: RowKind, place: Place, option: str) -> Loaded:
    """Read `specs` one after the other, as rows of the kind `want`.

    A file is read once a process: what was loaded is kept in `place.scratch`.

    Raises:
        DataError: data is missing, malformed, of no known format or of the wrong kind; all faults of
            all specs together, each with its file and line, or at `option` of the recipe.
    """
    parts, faults = [], []
    for spec in specs:
        try:
            parts.append(_once(spec, want, place, option))
        except AlignerError as error:
            faults.append(error)
    Faults.raise_if_any(faults)
    if len(parts) == 1:
        return parts[0]
    rows = tuple(row for part in parts for row in part.rows)
    digest = hashlib.sha256("".join(part.hash for part in parts).encode()).hexdigest()
    skipped = tuple(one for part in parts for one in part.skipped)
    ledger = _account(rows, [part.ledger for part in parts])
    return Loaded(rows=rows, hash=digest, ledger=ledger, skipped=skipped)


def _once(spec: DataSpec, want: RowKind, place: Place, option: str) -> Loaded:
    key = f"rows {want} {place.recipe_folder} {spec.model_dump_json()} {made_hash(spec, place)}"
    if key not in place.scratch:
        place.scratch[key] = _load(spec, want, place, option)
    loaded: Loaded = place.scratch[key]
    return loaded


def _load(spec: DataSpec, want: RowKind, place: Place, option: str) -> Loaded:
    reading = open_rows(spec, place, option)
    # Errors in the middle of a file are raised by the reader itself, at their line.
    raw = _renamed(list(reading.rows), spec, place.at(option))
    chosen = recognise(raw, spec, want, place, option)
    tally, skipped = Tally(), []
    rows: list[Row] = []
    faults: list[AlignerError] = []
    for origin, one in raw:
        try:
            rows += _usable(_converted(one, origin, chosen, want), tally)
        except Different as error:
            tally.drop(error.what, origin)
        except DataError as error:
            faults.append(error)
            tally.skip(error.what, origin)
            skipped.append(Skipped(origin, error.what, None if isinstance(one, DataError) else one))
    if faults and spec.on_bad_row == "stop":
        raise Faults(_first_few(faults, spec, len(raw)))
    ledger = _account(rows, [
        Ledger(
            name=spec.named, formats=(chosen.name,), read=len(raw),
            skipped=tally.skipped, dropped=tally.dropped, found=tally.found,
        )
    ])  # fmt: skip
    determining = spec.model_dump_json(include=_DETERMINING)
    digest = hashlib.sha256(f"{reading.hash()} {determining} {want}".encode()).hexdigest()
    return Loaded(rows=tuple(rows), hash=digest, ledger=ledger, skipped=tuple(skipped))


# Not where it lies, but what is read from it: moved data is the same data.
_DETERMINING = {"format", "columns", "documents", "header", "first", "on_bad_row"}


def _first_few(faults: list[AlignerError], spec: DataSpec, rows: int) -> list[AlignerError]:
    if len(faults) == 1:
        return faults
    named, others = faults[:NAMED], len(faults) - NAMED
    what = f"{len(faults)} of {rows} rows are malformed" + (
        f", {others} more than are named here" if others > 0 else ""
    )
    hint = "correct them, or leave them out with `on_bad_row: skip`"
    return [*named, DataError(what, where=spec.named, hint=hint)]


def _renamed(raw: list[Placed], spec: DataSpec, where: str) -> list[Placed]:
    if not spec.columns:
        return raw
    there = {str(name) for _, row in raw if isinstance(row, Mapping) for name in row}
    faults: list[AlignerError] = []
    for name, to in spec.columns.items():
        if name not in there:
            hint = did_you_mean(name, map(shown, there))
            faults.append(DataError(f"{spec.named} has no column {name!r}", where=where, hint=hint))
        elif to in there and to not in spec.columns:
            hint = f"rename that one too: `columns: {{{to}: other}}`"
            what = f"{spec.named} has a column {to!r} already"
            faults.append(DataError(what, where=where, hint=hint))
    Faults.raise_if_any(faults)
    names = spec.columns
    return [
        (origin, {names.get(n, n): v for n, v in row.items()} if isinstance(row, Mapping) else row)
        for origin, row in raw
    ]


def _converted(one: Any, origin: str, chosen: DataFormat, want: RowKind) -> list[Row]:
    if isinstance(one, DataError):
        raise one
    if not isinstance(one, Mapping):
        raise DataError(f"a row should be an object, not {found(one)}", where=origin)
    try:
        made = chosen.convert(one)
        rows = [made] if isinstance(made, Row) else list(made)
        return [
            replace(converted, origin=origin)
            for row in rows
            for converted in as_kind(row, chosen.kind, want)
        ]
    except Different:
        raise
    except Malformed as error:
        raise DataError(error.what, where=origin, hint=error.hint) from None
    except KeyError as error:
        hint = f"{chosen.name} rows need it; the row has {', '.join(map(shown, one))}"
        raise DataError(f"field {error} is missing", where=origin, hint=hint) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(str(error).split("\n")[0][:300], where=origin) from None


def _usable(rows: list[Row], tally: Tally) -> list[Row]:
    """Leave out rows that would do harm, and count what else is odd about them."""
    kept = []
    for row in rows:
        if isinstance(row, Preference) and is_empty((*row.chosen, *row.rejected)):
            tally.drop("an answer is empty", row.origin)
        elif isinstance(row, Preference) and row.chosen == row.rejected:
            tally.drop("chosen and rejected are identical", row.origin)
        elif isinstance(row, Conversation) and is_empty(row.messages):
            tally.drop("an answer is empty", row.origin)
        elif isinstance(row, Conversation) and not any(
            message["role"] == "assistant" for message in row.messages
        ):
            tally.drop("nobody answers", row.origin)
        elif isinstance(row, Prompt) and row.messages[-1]["role"] not in ("user", "tool"):
            tally.drop("nobody asks", row.origin)
        elif isinstance(row, Labelled) and is_empty(row.completion):
            tally.drop("an answer is empty", row.origin)
        elif fault := order_fault(_messages(row)):
            tally.find("role_order", row.origin, fault)
            tally.drop("turns in the wrong order", row.origin)
        else:
            kept.append(row)
            _look_at(row, tally)
    return kept


def _messages(row: Row) -> Messages:
    messages = getattr(row, "messages", None)
    if messages is not None:
        return tuple(messages)
    answer = getattr(row, "chosen", getattr(row, "completion", ()))
    return (*getattr(row, "prompt", ()), *answer)


def _look_at(row: Row, tally: Tally) -> None:
    if any(not m["content"].strip() and not m.get("tool_calls") for m in _messages(row)):
        tally.find("empty_turns", row.origin)
    if isinstance(row, Preference) and row.margin == 0:
        tally.find("ties", row.origin)


def _account(rows: Sequence[Row], parts: Sequence[Ledger]) -> Ledger:
    """One ledger for all parts, with what shows only when all rows are seen together."""
    tally = Tally()
    seen: set[bytes] = set()
    sides: dict[tuple[str, str, str], int] = {}
    labels: dict[str, int] = {}
    for row in rows:
        key = content_key(row)
        if key in seen:
            tally.find("duplicates", row.origin)
        seen.add(key)
        if isinstance(row, Preference):
            pair = (prompt_key(row), str(row.chosen), str(row.rejected))
            if (pair[0], pair[2], pair[1]) in sides:
                tally.find("conflicts", row.origin)
            sides[pair] = 1
        label = row.label if isinstance(row, Classified | Labelled) else None
        if label is not None:
            labels[str(label)] = labels.get(str(label), 0) + 1
    # Told anew, as a row may repeat one of another part.
    anew = {"duplicates", "conflicts"}
    skipped: dict[str, Count] = {}
    dropped: dict[str, Count] = {}
    found: dict[str, Count] = {}
    for part in parts:
        skipped = together(skipped, part.skipped)
        dropped = together(dropped, part.dropped)
        found = together(found, {n: c for n, c in part.found.items() if n not in anew})
    return Ledger(
        name=", ".join(part.name for part in parts),
        formats=tuple(name for part in parts for name in part.formats),
        read=sum(part.read for part in parts),
        converted=len(rows) + sum(count.rows for count in dropped.values()),
        used=len(rows),
        labels=labels,
        skipped=skipped,
        dropped=dropped,
        found=together(found, tally.found),
    )


def hold_out(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Part `rows` into those to train on and the `share` held out, by a hash of the prompt.

    The same prompt never falls on both sides, and rows that are added later move none of the others.
    """
    train: list[Row] = []
    held: list[Row] = []
    for row in rows:
        digest = hashlib.sha256(prompt_key(row).encode("utf-8", "surrogatepass")).digest()
        is_held = int.from_bytes(digest[:8]) < share * 2**64
        (held if is_held else train).append(row)
    return train, held
