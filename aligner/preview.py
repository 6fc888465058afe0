"""What a stage shows of its rows before it runs: the tokens its model will get, and each one's role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal["trained", "masked", "padding"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class PreviewToken:
    """A token at its place in a batch.

    >>> PreviewToken(7, " cat", "trained").text
    ' cat'
    """

    id: int
    text: str
    """What it stands for; bytes that are no whole character as `\\xf0`."""
    role: Role
    """`trained`: a loss is put on it. `masked`: it is only read. `padding`: it is not even that."""
    special: bool = False
    """Whether it steers the model rather than says anything: `<|im_end|>`."""


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """One sequence of a batch, padding and all."""

    name: str
    """`chosen`, or nothing where the row has this lane alone."""
    tokens: tuple[PreviewToken, ...]
    boundaries: Mapping[int, str] = field(default_factory=dict)
    """Where another row begins in a sequence that holds several, and which."""
    notes: tuple[str, ...] = ()
    """How it ends, in words."""
    warnings: tuple[str, ...] = ()
    """The same where it does not end as it should."""

    @property
    def counts(self) -> Mapping[Role, int]:
        return counts_of([self])


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """A row as the model gets it: one sequence, or several that are compared."""

    number: int
    """Which row of its side, counted from 1."""
    title: str
    origin: str
    """Where it was written, `file:line`."""
    sequences: tuple[TokenSequence, ...]
    shared: int = 0
    """The first tokens that are the same in all sequences: the prompt that several answers have in common."""
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreviewBatch:
    """A batch as it was made for the rows that are shown."""

    title: str
    """Which rows it is made of."""
    sequences: int
    columns: int
    counts: Mapping[Role, int]
    """Over all its sequences, those that are not shown too."""


@dataclass(frozen=True, kw_only=True)
class PreviewSection:
    """Some rows of one data set of a step."""

    option: str
    """The option that names the data."""
    title: str
    """Which rows there are: `24 rows to train on`."""
    rows: tuple[PreviewRow, ...]
    batches: tuple[PreviewBatch, ...]
    word: str = "trained"
    """What to call the tokens whose role is `trained`, where a stage puts another loss or none on them."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreviewRequest:
    """Which rows are to be shown."""

    rows: tuple[int | str, ...] = (1, 2)
    """By number, counted from 1, or by where they were written, `data.jsonl:17`."""
    by_name: bool = False
    """Whether somebody asked for just these: then there must be such rows; else the first will do."""
    held_out: bool = False
    """Show rows that are measured on, not those that are trained on."""


def counts_of(sequences: Sequence[TokenSequence]) -> dict[Role, int]:
    """How many tokens of `sequences` play each role."""
    found = Counter(token.role for lane in sequences for token in lane.tokens)
    return {role: found[role] for role in ROLES}
