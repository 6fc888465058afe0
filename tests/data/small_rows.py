"""Small rows, and the rows that operations make of them, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aligner.data.ledger import Count, Tally
from aligner.data.options import DataOptions, DataSpec
from aligner.data.reading.load import apply_step_operations
from aligner.data.reading.operations import apply_entry_operations, with_named_operations
from aligner.data.reading.selection import select_rows
from aligner.data.rows import Conversation, Preference, Prompt, Row, Text


def turns(*output: str) -> tuple[dict[str, Any], ...]:
    """User and assistant in turn."""
    roles = ("user", "assistant")
    return tuple({"role": roles[i % 2], "content": text} for i, text in enumerate(output))


def talk(*output: str, origin: str = "") -> Conversation:
    return Conversation(messages=turns(*output), origin=origin)


def talks(*pairs: tuple[str, str]) -> list[Row]:
    return [talk(*pair, origin=f"a.jsonl:{i}") for i, pair in enumerate(pairs, 1)]


def pair(asked: str, chosen: str, rejected: str, origin: str = "") -> Preference:
    sides = [({"role": "assistant", "content": side},) for side in (chosen, rejected)]
    return Preference(prompt=turns(asked), chosen=sides[0], rejected=sides[1], origin=origin)


def text(output: str, origin: str = "") -> Text:
    return Text(text=output, origin=origin)


def asking(output: str, **others: Any) -> Prompt:
    return Prompt(messages=turns(output), row=others)


def curate(rows: Iterable[Row], place: Any, **options: Any) -> tuple[list[Row], Tally]:
    """Return the rows that an entry with these options yields, and the tally of the others."""
    tally = Tally()
    spec = with_named_operations(DataSpec(path="a.jsonl", **options), place)
    left = apply_entry_operations(iter(rows), spec, "entry", tally, context=place, option="data")
    return list(select_rows(left, spec, place.seed, tally)), tally


def combine(rows: Iterable[Row], place: Any, **options: Any) -> tuple[list[Row], Tally]:
    """Return the rows that a step with these options yields, and the tally of the others."""
    tally = Tally()
    step = with_named_operations(DataOptions(data="a.jsonl", **options), place)
    return list(apply_step_operations(iter(rows), step, tally, place)), tally


def output(rows: Iterable[Row]) -> list[list[str]]:
    """The contents of conversations' turns."""
    return [[turn["content"] for turn in row.messages] for row in rows]  # type: ignore[attr-defined]


def plain(counts: dict[str, Count]) -> dict[str, tuple[str, ...]]:
    """The rows that a tally names, by reason; that there are no others is made sure of."""
    assert all(count.rows == len(count.first) for count in counts.values())
    return {name: count.first for name, count in counts.items()}
