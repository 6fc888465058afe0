"""Rows with their last user turn in other words: what is asked for, what counts as one, what is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.data.context import DataContext
from aligner.data.encoding.chat import ChatEncoder
from aligner.data.ledger import Ledger
from aligner.data.reading.load import load_rows
from aligner.data.rows import Conversation, Messages, Preference, Prompt, Row
from aligner.errors import ErrorGroup
from aligner_annotate.answers import Candidate
from aligner_annotate.paraphrase_stage import PLACE, ParaphraseOptions


@dataclass(frozen=True, kw_only=True)
class Request:
    """A row, the turn of it that is to be reworded, and how the policy is asked."""

    row: Row
    turn: int
    """The place of the turn among those of the row (of its prompt, where it has one)."""
    text: str
    input_ids: list[int]

    @property
    def origin(self) -> str:
        return self.row.origin


@dataclass(frozen=True, kw_only=True)
class Requests:
    """All rows, and those that can be reworded."""

    rows: Sequence[Row]
    requests: Sequence[Request]
    ledger: Ledger
    hash: str
    skipped: Sequence[Any]


def requests_of(options: ParaphraseOptions, context: DataContext, tokenizer: Any) -> Requests:
    """Read the rows, and ask for a rewording of each.

    A row without a user's turn, or whose request is longer than `max_length`, is asked nothing.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
        ModelError: the tokenizer has no usable chat template.
    """
    loaded = load_rows(options.data, want=options.rows, context=context, option="data")
    ErrorGroup.raise_if_any(loaded.ledger.errors(options.limits, context.at("data")))
    chat = ChatEncoder(tokenizer, where=context.at("data"))
    found: list[tuple[Row, int, str]] = []
    samples = []
    for row in loaded.rows:
        turns = [n for n, message in enumerate(_asked(row)) if message["role"] == "user"]
        if turns:
            text = str(_asked(row)[turns[-1]]["content"])
            request = {"role": "user", "content": options.instruction.replace(PLACE, text)}
            found.append((row, turns[-1], text))
            samples.append(chat.prompt((request,)))
    requests = [
        Request(row=row, turn=turn, text=text, input_ids=one.input_ids)
        for (row, turn, text), one in zip(found, chat.encode(samples), strict=True)
        if options.max_length is None or len(one.input_ids) <= options.max_length
    ]
    return Requests(
        rows=loaded.rows,
        requests=requests,
        ledger=loaded.ledger,
        hash=loaded.hash,
        skipped=loaded.skipped,
    )


def taken(
    request: Request,
    candidates: Sequence[Candidate],
    options: ParaphraseOptions,
    dropped: Counter[str],
) -> list[str]:
    """What of the policy's answers is a paraphrase, as far as can be told without understanding it.

    Args:
        request: The turn.
        candidates: What the policy wrote.
        config: The step's.
        dropped: Gets one more for each that is left out, by reason.
    """
    kept: list[str] = []
    seen: set[str] = set()
    words = len(request.text.split())
    for one in candidates:
        text = one.text.strip()
        plain = _plain(text)
        if not one.ended:
            dropped["unended"] += 1
        elif not text:
            dropped["empty"] += 1
        elif plain == _plain(request.text):
            dropped["unchanged"] += 1
        elif plain in seen:
            dropped["identical"] += 1
        elif not options.shortest * words <= len(text.split()) <= options.longest * words:
            dropped["length"] += 1
        else:
            seen.add(plain)
            kept.append(text)
    return kept


def rows_with(requests: Requests, texts: Mapping[int, Sequence[str]], originals: bool) -> list[Any]:
    """The rows that are made, in a format aligner reads.

    Args:
        requests: Whence they come.
        texts: Paraphrases, by the place of their request.
        originals: Whether the rows as they were stand before them.
    """
    by_row = {id(one.row): (one, texts.get(n, ())) for n, one in enumerate(requests.requests)}
    made = []
    for row in requests.rows:
        made += [_written(row, _asked(row))] if originals else []
        request, reworded = by_row.get(id(row), (None, ()))
        for text in reworded:
            assert request is not None
            turns = list(_asked(row))
            turns[request.turn] = {**turns[request.turn], "content": text}
            made.append(_written(row, tuple(turns)))
    return made


def _asked(row: Row) -> Messages:
    """The turns among which the last of the user's is reworded."""
    if isinstance(row, Preference):
        return row.prompt
    assert isinstance(row, Conversation | Prompt), "no other kind of rows is read"
    return row.messages


def _written(row: Row, asked: Messages) -> dict[str, Any]:
    said = [dict(message) for message in asked]
    made: dict[str, Any]
    if isinstance(row, Preference):
        made = {"prompt": said, "chosen": _plainly(row.chosen), "rejected": _plainly(row.rejected)}
        made |= {"margin": row.margin} if row.margin is not None else {}
    elif isinstance(row, Prompt):
        made = {**row.row, "prompt": said}
    else:
        made = {"messages": said}
    tools = getattr(row, "tools", None)
    return made | ({"tools": _plainly(tools)} if tools is not None else {})


def _plainly(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(one) for one in parts]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
