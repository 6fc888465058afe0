"""Small rows, and what curating them leaves, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aligner.data.curation.entry import curated
from aligner.data.ledger import Count, Tally
from aligner.data.options import DataSpec
from aligner.data.rows import Conversation, Preference, Prompt, Row, Text


def turns(*said: str) -> tuple[dict[str, Any], ...]:
    """User and assistant in turn."""
    roles = ("user", "assistant")
    return tuple({"role": roles[i % 2], "content": text} for i, text in enumerate(said))


def talk(*said: str, origin: str = "") -> Conversation:
    return Conversation(messages=turns(*said), origin=origin)


def talks(*pairs: tuple[str, str]) -> list[Row]:
    return [talk(*pair, origin=f"a.jsonl:{i}") for i, pair in enumerate(pairs, 1)]


def pair(asked: str, chosen: str, rejected: str, origin: str = "") -> Preference:
    sides = [({"role": "assistant", "content": side},) for side in (chosen, rejected)]
    return Preference(prompt=turns(asked), chosen=sides[0], rejected=sides[1], origin=origin)


def text(said: str, origin: str = "") -> Text:
    return Text(text=said, origin=origin)


def asking(said: str, **others: Any) -> Prompt:
    return Prompt(messages=turns(said), row=others)


def curate(rows: Iterable[Row], place: Any, **options: Any) -> tuple[list[Row], Tally]:
    """What an entry with these options leaves of the rows, and the tally of the others."""
    tally = Tally()
    spec = DataSpec(path="a.jsonl", **options)
    return list(curated(iter(rows), spec, tally, context=place, option="data")), tally


def said(rows: Iterable[Row]) -> list[list[str]]:
    """The contents of conversations' turns."""
    return [[turn["content"] for turn in row.messages] for row in rows]  # type: ignore[attr-defined]


def plain(counts: dict[str, Count]) -> dict[str, tuple[str, ...]]:
    """The rows that a tally names, by reason; that there are no others is made sure of."""
    assert all(count.rows == len(count.first) for count in counts.values())
    return {name: count.first for name, count in counts.items()}
