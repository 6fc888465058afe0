"""What fitting rows into a length yields: encoded rows, and the count of all that was lost."""

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
"""Rows that are named of those that are too long."""


@dataclass
class EncodedRows(Generic[T]):
    """Encoded rows, and what became of the others."""

    longest: int | None = None
    rows: list[T] = field(default_factory=list)
    """Those that have not been taken on yet: whoever takes them on clears the list, and `sizes`."""
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each of them its length (see `lengths`), its tokens, and those of them that are trained."""
    tally: Tally = field(default_factory=Tally)
    lengths: array[int] = field(default_factory=lambda: array("i"))
    """Tokens in each row as the model sees it: of a pair, the prompt with the longer answer."""
    tokens: int = 0
    trained: int = 0
    cut_tokens: int = 0
    unknown: int = 0
    too_long: list[tuple[str, int]] = field(default_factory=list)
    """Origin and tokens of the first rows that the check must stop for."""
    too_long_rows: int = 0

    def take(self, row: T, *, length: int, tokens: int, trained: int) -> None:
        """Use a row: its longest sequence, all its tokens, and those of them that are trained."""
        self.rows.append(row)
        self.sizes.append((length, tokens, trained))
        self.lengths.append(length)
        self.tokens += tokens
        self.trained += trained

    def refuse(self, origin: str, tokens: int, over: Overflow) -> None:
        """Leave a row out that is too long."""
        if over == "stop":
            self.too_long_rows += 1
            self.too_long += [(origin, tokens)] if len(self.too_long) < NAMED else []
        self.tally.drop(f"longer than max_length {self.longest}", origin)

    def cut(self, origin: str, tokens: int) -> None:
        self.tally.find("cut", origin)
        self.cut_tokens += tokens


def too_long_errors(
    first: Sequence[tuple[str, int]], count: int, longest: int | None, where: str
) -> list[AlignerError]:
    """The error that `overflow: stop` asks for, if any row is too long.

    Args:
        first: Origin and tokens of the first few.
        count: How many there are.
        longest: The length they must fit into.
        where: The option that says so.
    """
    if not count:
        return []
    places = ", ".join(f"{origin} ({tokens})" for origin, tokens in first)
    more = ", …" if count > len(first) else ""
    what = f"{count} rows have more than max_length {longest} tokens: "
    hint = "raise max_length, or set overflow to drop, cut or turns"
    return [DataError(f"{what}{places}{more}", where=where, hint=hint)]


@dataclass
class RenderedRows(Generic[R, T]):
    """Rows with what a template made of them, and those that it refuses, with why."""

    rows: list[tuple[R, T]]
    refused: list[tuple[str, str]]


class RowEncoder(ABC, Generic[T]):
    """Makes encoded rows of one kind, in three parts: the second may be done in the background."""

    @abstractmethod
    def render(self, rows: Sequence[Any]) -> RenderedRows[Any, Any]:
        """Texts of rows, which become tokens."""

    @abstractmethod
    def encode(self, made: RenderedRows[Any, Any]) -> list[Any]:
        """The tokens of what was rendered. Touches nothing else."""

    @abstractmethod
    def take(
        self, made: RenderedRows[Any, Any], encoded: list[Any], fitted: EncodedRows[T]
    ) -> None:
        """Fit what was encoded, into `fitted`."""

    def fit(self, rows: Sequence[Any], fitted: EncodedRows[T]) -> EncodedRows[T]:
        """All three at once."""
        made = self.render(rows)
        self.take(made, self.encode(made), fitted)
        return fitted


def render_rows(rows: Sequence[R], results: Sequence[T | MalformedRowError]) -> RenderedRows[R, T]:
    """Part rows with what a template made of them from those that it refused."""
    made: RenderedRows[R, T] = RenderedRows([], [])
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, MalformedRowError):
            made.refused.append((row.origin, result.what))
        else:
            made.rows.append((row, result))
    return made


def count_refused(made: RenderedRows[Any, Any], fitted: EncodedRows[Any]) -> None:
    for origin, why in made.refused:
        fitted.tally.drop(why, origin)


def count_token_findings(
    fitted: EncodedRows[Any], origin: str, ids: Sequence[int], chat: ChatEncoder
) -> None:
    if chat.encoder.unknown >= 0:
        fitted.unknown += ids.count(chat.encoder.unknown)
    bos = chat.tokenizer.bos_token_id
    if bos is not None and list(ids[:2]) == [bos, bos]:
        fitted.tally.find("double_bos", origin)


def count_sample_findings(fitted: EncodedRows[Any], origin: str, sample: RenderedSample) -> None:
    if sample.left_out:
        fitted.tally.find("left_out", origin, sample.left_out)
    if sample.special_text:
        fitted.tally.find("special_text", origin)


def render_or_none(render: Callable[[], T]) -> T | None:
    try:
        return render()
    except MalformedRowError:
        return None


def drop_oldest_turns(messages: Messages) -> Iterator[Messages]:
    """`messages` without their first exchange, without their first two, and so on.

    System turns stay, and what is left always begins with a user's turn.
    """
    system = tuple(message for message in messages if message["role"] == "system")
    rest = messages[len(system) :]
    for index, message in enumerate(rest):
        if index and message["role"] == "user":
            yield (*system, *rest[index:])
