"""Encode rows within a maximum length, and count everything that is lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aligner.data.encoding.chat import ChatEncoder, RenderedSample
from aligner.data.ledger import Tally
from aligner.data.options import Overflow
from aligner.data.reading.messages import MalformedRowError
from aligner.data.rows import Messages, Row
from aligner.errors import AlignerError, DataError

T = TypeVar("T")
R = TypeVar("R", bound=Row)
NAMED = 5
"""Number of rows that are named of those that are too long."""


@dataclass
class EncodedRows(Generic[T]):
    """Tokenized rows within the maximum length, and the counts of the others."""

    longest: int | None = None
    rows: list[T] = field(default_factory=list)
    """Rows that have not been written yet; the writer clears this list and `sizes`."""
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each of them its length (see `lengths`), its tokens, and its trained tokens."""
    tally: Tally = field(default_factory=Tally)
    lengths: array[int] = field(default_factory=lambda: array("i"))
    """Length in tokens of each row: of a pair, that of the prompt with the longer answer."""
    tokens: int = 0
    trained: int = 0
    truncated_tokens: int = 0
    unknown: int = 0
    too_long: list[tuple[str, int]] = field(default_factory=list)
    """Origin and tokens of the first rows that stop the check."""
    too_long_rows: int = 0

    def take(self, row: T, *, length: int, tokens: int, trained: int) -> None:
        """Add a row with its longest sequence, all its tokens, and its trained tokens."""
        self.rows.append(row)
        self.sizes.append((length, tokens, trained))
        self.lengths.append(length)
        self.tokens += tokens
        self.trained += trained

    def refuse(self, origin: str, tokens: int, over: Overflow) -> None:
        """Leave out a row that is too long."""
        if over == "stop":
            self.too_long_rows += 1
            self.too_long += [(origin, tokens)] if len(self.too_long) < NAMED else []
        self.tally.drop(f"longer than max_length {self.longest}", origin)

    def count_truncated(self, origin: str, tokens: int) -> None:
        """Count a row that loses so many tokens."""
        self.tally.find("truncated", origin)
        self.truncated_tokens += tokens


def too_long_errors(
    first: Sequence[tuple[str, int]], count: int, longest: int | None, where: str
) -> list[AlignerError]:
    """Return the error that `overflow: stop` asks for if any row is too long.

    Args:
        first: Origin and tokens of the first rows.
        count: Number of rows that are too long.
        longest: Maximum length in tokens.
        where: Line of the recipe.
    """
    if not count:
        return []
    places = ", ".join(f"{origin} ({tokens})" for origin, tokens in first)
    more = ", …" if count > len(first) else ""
    what = f"{count} rows have more than max_length {longest} tokens: "
    hint = "raise max_length, or set overflow to drop, truncate or turns"
    return [DataError(f"{what}{places}{more}", where=where, hint=hint)]


@dataclass
class RenderedRows(Generic[R, T]):
    """Rows with their rendered form, and the origins of rows that the template rejects, with reasons."""

    rows: list[tuple[R, T]]
    refused: list[tuple[str, str]]


class RowEncoder(ABC, Generic[T]):
    """Encoder of rows of one kind, in three steps; the second may run in the background."""

    @abstractmethod
    def render(self, rows: Sequence[Any]) -> RenderedRows[Any, Any]:
        """Render rows as text."""

    @abstractmethod
    def encode(self, made: RenderedRows[Any, Any]) -> list[Any]:
        """Tokenize rendered rows; changes nothing else."""

    @abstractmethod
    def take(
        self, made: RenderedRows[Any, Any], encoded: list[Any], encoded_rows: EncodedRows[T]
    ) -> None:
        """Truncate or drop rows that are too long, and add the others to `encoded_rows`."""

    def fit(self, rows: Sequence[Any], encoded_rows: EncodedRows[T]) -> EncodedRows[T]:
        """Run all three steps."""
        made = self.render(rows)
        self.take(made, self.encode(made), encoded_rows)
        return encoded_rows


def render_rows(rows: Sequence[R], results: Sequence[T | MalformedRowError]) -> RenderedRows[R, T]:
    """Part rows with what a template made of them from those that it refused."""
    made: RenderedRows[R, T] = RenderedRows([], [])
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, MalformedRowError):
            made.refused.append((row.origin, result.what))
        else:
            made.rows.append((row, result))
    return made


def count_refused(made: RenderedRows[Any, Any], encoded_rows: EncodedRows[Any]) -> None:
    for origin, why in made.refused:
        encoded_rows.tally.drop(why, origin)


def count_token_findings(
    encoded_rows: EncodedRows[Any], origin: str, ids: Sequence[int], chat: ChatEncoder
) -> None:
    if chat.encoder.unknown >= 0:
        encoded_rows.unknown += ids.count(chat.encoder.unknown)
    bos = chat.tokenizer.bos_token_id
    if bos is not None and list(ids[:2]) == [bos, bos]:
        encoded_rows.tally.find("double_bos", origin)


def count_sample_findings(
    encoded_rows: EncodedRows[Any], origin: str, sample: RenderedSample
) -> None:
    if sample.left_out:
        encoded_rows.tally.find("left_out", origin, sample.left_out)
    if sample.special_text:
        encoded_rows.tally.find("special_text", origin)


def render_or_none(render: Callable[[], T]) -> T | None:
    try:
        return render()
    except MalformedRowError:
        return None


def drop_oldest_turns(messages: Messages) -> Iterator[Messages]:
    """Yield `messages` without their first exchange, without their first two, and so on.

    System turns stay, and the rest always begins with a user turn.
    """
    system = tuple(message for message in messages if message["role"] == "system")
    rest = messages[len(system) :]
    for index, message in enumerate(rest):
        if index and message["role"] == "user":
            yield (*system, *rest[index:])
