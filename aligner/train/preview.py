"""Read rows back from the batches that are made of them, as every previewed stage does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.data.encoding.spelling import TokenSpeller
from aligner.errors import DataError
from aligner.preview import (
    PreviewBatch,
    PreviewRequest,
    PreviewRow,
    PreviewSection,
    PreviewToken,
    Role,
    TokenSequence,
    count_roles,
)
from aligner.stage import PlanContext

SHUFFLED = "training makes its batches of rows of like length, so they hold less padding"


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A row's sequences as they lie in a batch."""

    sequences: tuple[TokenSequence, ...]
    shared: int = 0
    facts: tuple[str, ...] = ()


class Reader:
    """Makes sequences of what stands in the tensors of a batch."""

    def __init__(self, tokenizer: Any, *, stops: Sequence[int] = (), word: str = "trained") -> None:
        """Args:
        tokenizer: Whose ids they are.
        stops: Tokens with which trained stretches must end; empty where nothing need end so.
        word: What to call the tokens that a loss is put on.
        """
        self.word = word
        self.tokenizer, self._stops = tokenizer, tuple(stops)
        self._spell = TokenSpeller(tokenizer)

    def name(self, token: int) -> str:
        return self._spell.text(token)

    def lane(
        self,
        ids: Iterable[int],
        trained: Iterable[int],
        present: Iterable[int],
        *,
        name: str = "",
        boundaries: Mapping[int, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> TokenSequence:
        """A lane of three lists, or tensors (T,), of one length.

        Args:
            ids: Token ids.
            trained: Whether a loss is put on each.
            present: False on padding.
            name: `chosen`, or nothing where the row has one lane.
            seams: Where further rows begin in it.
            notes: What to say of it, in place of how it ends.
        """
        tokens = tuple(
            self._token(int(token), "padding" if not there else "trained" if on else "masked")
            for token, on, there in zip(ids, trained, present, strict=True)
        )
        lane = TokenSequence(
            name=name, tokens=tokens, boundaries=dict(boundaries or {}), notes=notes
        )
        if notes or not self._stops:
            return lane
        said, warned = self._endings(lane)
        return TokenSequence(
            name=name, tokens=tokens, boundaries=lane.boundaries, notes=said, warnings=warned
        )

    def scored_lane(
        self, ids: Sequence[int], present: Iterable[int], *, pad: int, name: str = ""
    ) -> TokenSequence:
        """Return a sequence of a model that reads one score at the last token that is not `pad`."""
        read = max((place for place, token in enumerate(ids) if token != pad), default=0)
        note = f"the score is read at position {read}, {self.name(ids[read])}"
        scored = [place == read for place in range(len(ids))]
        return self.lane(ids, scored, present, name=name, notes=(note,))

    def _token(self, token: int, role: Role) -> PreviewToken:
        return PreviewToken(token, self._spell.text(token), role, self._spell.special(token))

    def _endings(self, lane: TokenSequence) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """How the trained stretches of a lane end, and which of them do not as they should."""
        ends = _stretch_ends(lane)
        if not ends:
            return (), (f"nothing in it is {self.word}",)
        good = [end for end in ends if lane.tokens[end].id in self._stops]
        names = " or ".join(dict.fromkeys(lane.tokens[end].text for end in good))
        said: tuple[str, ...] = ()
        if len(good) == len(ends) == 1:
            said = (f"ends with {names}, {self.word}",)
        elif good:
            said = (f"{len(good)} of {len(ends)} answers end with {names}, {self.word}",)
        return said, tuple(self._unstopped(lane, end) for end in ends if end not in good)

    def _unstopped(self, lane: TokenSequence, end: int) -> str:
        after = lane.tokens[end + 1] if end + 1 < len(lane.tokens) else None
        if after is not None and after.id in self._stops and after.role != "trained":
            return f"the stop token {after.text} at {end + 1} is not {self.word}"
        return f"no stop token is {self.word} at {end}: it ends with {lane.tokens[end].text!r}"


def _stretch_ends(lane: TokenSequence) -> list[int]:
    """Where each trained stretch of a lane has its last token."""
    tokens = lane.tokens
    return [
        place
        for place, token in enumerate(tokens)
        if token.role == "trained"
        and (place + 1 == len(tokens) or tokens[place + 1].role != "trained")
    ]


def after_first(trained: Iterable[int]) -> list[int]:
    """`trained` without the first token, which no loss can be put on: nothing predicts it."""
    marked = list(trained)
    return [0, *marked[1:]]


def section(
    rows: Sequence[Any],
    request: PreviewRequest,
    lay: Callable[[Sequence[Any]], Sequence[Laid]],
    *,
    context: PlanContext,
    size: int,
    option: str | None = None,
    word: str = "trained",
    purpose: str = "to train on",
    row_word: str = "row",
    joined: bool = False,
    number_of: Callable[[int | str], int | None] | None = None,
    notes: tuple[str, ...] = (),
) -> PreviewSection:
    """The rows that are asked for, each in the batch of `size` that it and its neighbours make.

    Args:
        rows: One side of a data set; each has an `origin`.
        asked: Which of them.
        lay: Makes a batch of rows, by the collator that trains, and reads each of them back.
        look: Where complaints point.
        size: Rows in a batch.
        option: The option that names the data, where it is not `data`, nor `eval_data` for what is held out.
        word: What to call the tokens that a loss is put on.
        purpose: What the rows are for, where none are held out.
        row_word: What to call a row: `row`, or `bin` where it holds several.
        joined: A batch is one sequence, in which its rows stand one after another.
        number_of: Finds a row by what the user calls it; by number or origin, unless given.
        notes: What is worth knowing of all of them.

    Raises:
        DataError: there is no such row.
    """
    option = option or (
        "eval_data" if request.held_out and "eval_data" in context.option_lines else "data"
    )
    purpose = "held out" if request.held_out else purpose
    title = f"{len(rows)} {row_word}{'' if len(rows) == 1 else 's'} {purpose}"
    places = _places(rows, request, number_of or _by_number_or_origin(rows), title, context, option)
    shown: list[PreviewRow] = []
    batches: list[PreviewBatch] = []
    for start in dict.fromkeys(place - place % size for place in places):
        part = [rows[place] for place in range(start, min(start + size, len(rows)))]
        laid = lay(part)
        batches.append(_batch(laid, start, row_word, joined=joined))
        for place in places:
            if start <= place < start + size:
                shown.append(_shown(rows[place], place, laid[place - start], row_word))
    order = {place + 1: position for position, place in enumerate(places)}
    shown.sort(key=lambda one: order[one.number])
    return PreviewSection(
        option=option,
        title=title,
        rows=tuple(shown),
        batches=tuple(batches),
        trained_label=word,
        notes=notes,
    )


def _places(
    rows: Sequence[Any],
    request: PreviewRequest,
    number_of: Callable[[int | str], int | None],
    title: str,
    context: PlanContext,
    option: str,
) -> list[int]:
    """Where the rows that are asked for stand, counted from 0, each once."""
    places: list[int] = []
    for name in request.rows:
        place = number_of(name)
        if place is not None:
            places.append(place)
        elif request.required:
            what = f"step {context.step!r} has no row {name}: there are {title}"
            raise DataError(what, where=context.at(option), hint=_hint(rows))
    return list(dict.fromkeys(places))


def _hint(rows: Sequence[Any]) -> str:
    if not len(rows):
        return "leave --held-out away, or give eval_data, or a share to hold_out"
    return (
        "rows are numbered from 1, or named by where they are written, FILE:LINE; "
        "`aligner check --verbose` tells which were left out"
    )


def _by_number_or_origin(rows: Sequence[Any]) -> Callable[[int | str], int | None]:
    def find(name: int | str) -> int | None:
        if isinstance(name, int):
            return name - 1 if 1 <= name <= len(rows) else None
        return next((place for place, row in enumerate(rows) if is_called(row.origin, name)), None)

    return find


def is_called(origin: str, name: str) -> bool:
    """Whether a row written at `origin` may be called `name`: by the whole of it, or by its end."""
    return origin == name or origin.endswith("/" + name)


def _shown(row: Any, place: int, laid: Laid, row_word: str) -> PreviewRow:
    return PreviewRow(
        number=place + 1,
        title=f"{row_word} {place + 1}",
        origin=row.origin,
        sequences=laid.sequences,
        prompt_length=laid.shared,
        details=laid.facts,
    )


def _batch(laid: Sequence[Laid], start: int, row_word: str, *, joined: bool) -> PreviewBatch:
    sequences = [lane for one in laid for lane in one.sequences]
    last = start + len(laid)
    to = "and" if len(laid) == 2 else "to"
    which = f"{row_word} {last}" if len(laid) == 1 else f"{row_word}s {start + 1} {to} {last}"
    widths = [len(lane.tokens) for lane in sequences]
    return PreviewBatch(
        title=which,
        num_sequences=1 if joined else len(sequences),
        sequence_length=sum(widths) if joined else max(widths),
        counts=count_roles(sequences),
    )


def answer_begins(reader: Reader, stops: Sequence[int], longest: int) -> str:
    """What comes after a prompt, in words."""
    names = " or ".join(reader.name(stop) for stop in stops)
    return f"here the answer begins: up to {longest} tokens, until {names}"


def prompt_shared(sequences: Sequence[TokenSequence], *, most: int | None = None) -> int:
    """How many first tokens all sequences have in common and none of them trains.

    Args:
        sequences: Two or more.
        most: No more than this, where it is known how long the prompt is.
    """
    count = 0
    for tokens in zip(*(lane.tokens for lane in sequences), strict=False):
        alike = len({token.id for token in tokens}) == 1
        if not alike or any(token.role != "masked" for token in tokens):
            break
        count += 1
    return count if most is None else min(count, most)
