"""Requests to paraphrase user turns, checks of the paraphrases, and the rows made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.kit.declare import ErrorGroup, error_location
from aligner.kit.rows import Conversation, Messages, Preference, Prompt, Row
from aligner.kit.work import ChatEncoder, DataContext, load_rows
from aligner_annotate.generation import Candidate
from aligner_annotate.options import TEXT, ParaphraseOptions


@dataclass(frozen=True, kw_only=True)
class ParaphraseRequest:
    """A row with the turn to paraphrase, and the prompt that requests it."""

    row: Row
    turn: int
    """Index of the turn in the row's conversation or prompt."""
    text: str
    input_ids: list[int]

    @property
    def origin(self) -> str:
        return self.row.origin


@dataclass(frozen=True, kw_only=True)
class ParaphraseData:
    """All rows of the step, and the requests to paraphrase those that can be."""

    rows: Sequence[Row]
    requests: Sequence[ParaphraseRequest]
    ledger: Mapping[str, Any]
    """Counts of the rows that were read, by what happened to them."""
    hash: str
    skipped: Sequence[Any]


def read_requests(
    options: ParaphraseOptions, context: DataContext, tokenizer: Any
) -> ParaphraseData:
    """Read the rows, and tokenize a request for each.

    A row without a user turn, or with a request longer than `max_length`, gets none.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
        ModelError: the tokenizer has no usable chat template.
    """
    loaded = load_rows(options.data, want=options.rows, context=context, option="data")
    ErrorGroup.raise_if_any(loaded.ledger.errors(options.limits, context.at("data")))
    found: list[tuple[Row, int, str]] = []
    samples = []
    with error_location(context.at("data")):
        chat = ChatEncoder(tokenizer)
        for row in loaded.rows:
            turns = [n for n, message in enumerate(_turns(row)) if message["role"] == "user"]
            if turns:
                text = str(_turns(row)[turns[-1]]["content"])
                request = {"role": "user", "content": options.instruction.replace(TEXT, text)}
                found.append((row, turns[-1], text))
                samples.append(chat.prompt((request,)))
        encoded = chat.encode(samples)
    requests = [
        ParaphraseRequest(row=row, turn=turn, text=text, input_ids=prompt.input_ids)
        for (row, turn, text), prompt in zip(found, encoded, strict=True)
        if options.max_length is None or len(prompt.input_ids) <= options.max_length
    ]
    return ParaphraseData(
        rows=loaded.rows,
        requests=requests,
        ledger=loaded.ledger.as_dict(),
        hash=loaded.hash,
        skipped=loaded.skipped,
    )


def accept_paraphrases(
    request: ParaphraseRequest,
    candidates: Sequence[Candidate],
    options: ParaphraseOptions,
    dropped: Counter[str],
) -> list[str]:
    """Return the completions that may be paraphrases, judged by their form.

    Args:
        request: The request.
        candidates: Completions of the policy.
        options: Options of the step.
        dropped: Number of dropped completions by reason; updated.
    """
    accepted: list[str] = []
    seen: set[str] = set()
    words = len(request.text.split())
    for candidate in candidates:
        text = candidate.text.strip()
        normalized = _normalize(text)
        if not candidate.ended:
            dropped["unended"] += 1
        elif not text:
            dropped["empty"] += 1
        elif normalized == _normalize(request.text):
            dropped["unchanged"] += 1
        elif normalized in seen:
            dropped["identical"] += 1
        elif not options.shortest * words <= len(text.split()) <= options.longest * words:
            dropped["length"] += 1
        else:
            seen.add(normalized)
            accepted.append(text)
    return accepted


def rows_with(
    data: ParaphraseData, texts: Mapping[int, Sequence[str]], originals: bool
) -> list[Any]:
    """Make rows in a format that aligner reads.

    Args:
        data: Rows and requests.
        texts: Paraphrases by the index of their request.
        originals: Make each original row too, before its paraphrases.
    """
    by_row = {
        id(request.row): (request, texts.get(n, ())) for n, request in enumerate(data.requests)
    }
    rows = []
    for row in data.rows:
        rows += [_as_dict(row, _turns(row))] if originals else []
        request, paraphrases = by_row.get(id(row), (None, ()))
        for text in paraphrases:
            assert request is not None
            turns = list(_turns(row))
            turns[request.turn] = {**turns[request.turn], "content": text}
            rows.append(_as_dict(row, tuple(turns)))
    return rows


def _turns(row: Row) -> Messages:
    """Return the turns whose last user turn is paraphrased."""
    if isinstance(row, Preference):
        return row.prompt
    assert isinstance(row, Conversation | Prompt), "no other kind of rows is read"
    return row.messages


def _as_dict(row: Row, turns: Messages) -> dict[str, Any]:
    messages = [dict(message) for message in turns]
    result: dict[str, Any]
    if isinstance(row, Preference):
        result = {
            "prompt": messages,
            "chosen": _dicts(row.chosen),
            "rejected": _dicts(row.rejected),
        }
        result |= {"margin": row.margin} if row.margin is not None else {}
    elif isinstance(row, Prompt):
        result = {**row.row, "prompt": messages}
    else:
        result = {"messages": messages}
    tools = getattr(row, "tools", None)
    return result | ({"tools": _dicts(tools)} if tools is not None else {})


def _dicts(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(item) for item in items]


def _normalize(text: str) -> str:
    return " ".join(text.casefold().split())
