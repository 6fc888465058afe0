"""What fitting rows into a length yields: encoded rows, and the count of all that was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aligner.data.chat import Chat, Sample
from aligner.data.ledger import Tally
from aligner.data.messages import Malformed
from aligner.data.rows import Messages, Row, Tools
from aligner.data.spec import Overflow
from aligner.errors import AlignerError, DataError

T = TypeVar("T")
R = TypeVar("R", bound=Row)
BATCH = 1000
"""Rows that are encoded together."""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the model sees it."""

    input_ids: list[int]
    messages: Messages
    row: Mapping[str, Any]
    """The other columns; a reference answer is called `answer`."""
    origin: str = ""
    tools: Tools | None = None


@dataclass(frozen=True)
class LabelTokens:
    """An answer as the model sees it, and whether it is a good one."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool
    completion_trained: list[bool] = field(default_factory=list)
    origin: str = ""


@dataclass
class Fitted(Generic[T]):
    """Encoded rows, and what became of the others."""

    rows: list[T] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    lengths: list[int] = field(default_factory=list)
    """Tokens in each row as the model sees it: of a pair, the prompt with the longer answer."""
    tokens: int = 0
    trained: int = 0
    cut_tokens: int = 0
    unknown: int = 0
    too_long: list[tuple[str, int]] = field(default_factory=list)
    """Origin and tokens of rows that the check must stop for."""
    longest: int | None = None

    def faults(self, where: str) -> list[AlignerError]:
        """The error that `overflow: stop` asks for, if any row is too long."""
        if not self.too_long:
            return []
        places = ", ".join(f"{origin} ({tokens})" for origin, tokens in self.too_long[:5])
        more = ", …" if len(self.too_long) > 5 else ""
        what = f"{len(self.too_long)} rows have more than max_length {self.longest} tokens: "
        hint = "raise max_length, or set overflow to drop, cut or turns"
        return [DataError(f"{what}{places}{more}", where=where, hint=hint)]

    def take(self, row: T, *, length: int, tokens: int, trained: int) -> None:
        """Use a row: its longest sequence, all its tokens, and those of them that are trained."""
        self.rows.append(row)
        self.lengths.append(length)
        self.tokens += tokens
        self.trained += trained

    def refuse(self, origin: str, tokens: int, over: Overflow) -> None:
        """Leave a row out that is too long."""
        if over == "stop":
            self.too_long.append((origin, tokens))
        self.tally.drop(f"longer than max_length {self.longest}", origin)

    def cut(self, origin: str, tokens: int) -> None:
        self.tally.find("cut", origin)
        self.cut_tokens += tokens


def batches(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def rendered(rows: Sequence[R], fitted: Fitted[Any], render: Callable[[R], T]) -> list[tuple[R, T]]:
    """Rows with what `render` makes of them; those the template refuses are dropped and counted."""
    made = []
    for row in rows:
        try:
            made.append((row, render(row)))
        except Malformed as error:
            fitted.tally.drop(error.what, row.origin)
    return made


def notice(fitted: Fitted[Any], origin: str, ids: Sequence[int], chat: Chat) -> None:
    fitted.unknown += list(ids).count(chat.encoder.unknown)
    bos = chat.tokenizer.bos_token_id
    if bos is not None and list(ids[:2]) == [bos, bos]:
        fitted.tally.find("double_bos", origin)


def notice_sample(fitted: Fitted[Any], origin: str, sample: Sample) -> None:
    if sample.left_out:
        fitted.tally.find("left_out", origin, sample.left_out)
    if sample.special_text:
        fitted.tally.find("special_text", origin)


def quietly(render: Callable[[], T]) -> T | None:
    try:
        return render()
    except Malformed:
        return None


def without_oldest(messages: Messages) -> Iterator[Messages]:
    """`messages` without their first exchange, without their first two, and so on.

    System turns stay, and what is left always begins with a user's turn.
    """
    system = tuple(message for message in messages if message["role"] == "system")
    rest = messages[len(system) :]
    for index, message in enumerate(rest):
        if index and message["role"] == "user":
            yield (*system, *rest[index:])
