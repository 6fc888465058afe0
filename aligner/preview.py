"""Preview of rows before a step runs: the tokens that the model will receive, with roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal["trained", "masked", "padding"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class PreviewToken:
    """A token of a sequence, with its text and role.

    >>> PreviewToken(7, " cat", "trained").text
    ' cat'
    """

    id: int
    text: str
    """Text of the token; incomplete characters as bytes: `\\xf0`."""
    role: Role
    """`trained`: part of the loss. `masked`: context only. `padding`: ignored by the model."""
    special: bool = False
    """True for a control token: `<|im_end|>`."""


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """One sequence of a batch, padding included."""

    name: str
    """`chosen`, or nothing if the row has only this sequence."""
    tokens: tuple[PreviewToken, ...]
    boundaries: Mapping[int, str] = field(default_factory=dict)
    """In a packed sequence: index of the first token of each further row, with its name."""
    notes: tuple[str, ...] = ()
    """Remarks, such as how the sequence ends."""
    warnings: tuple[str, ...] = ()
    """Remarks about problems, such as a missing end token."""

    @property
    def counts(self) -> Mapping[Role, int]:
        return counts_of([self])


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """A row as the model receives it: one sequence, or several that are compared."""

    number: int
    """Number of the row in its split, counted from 1."""
    title: str
    origin: str
    """`file:line` of the row."""
    sequences: tuple[TokenSequence, ...]
    shared: int = 0
    """Number of first tokens that all sequences share: the prompt of several answers."""
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreviewBatch:
    """A batch that the collator has built for the previewed rows."""

    title: str
    """Rows of the batch, in words."""
    sequences: int
    columns: int
    counts: Mapping[Role, int]
    """Tokens by role, over all sequences of the batch."""


@dataclass(frozen=True, kw_only=True)
class PreviewSection:
    """Previewed rows of one data set of a step."""

    option: str
    """The option that names the data."""
    title: str
    """Number of rows and their purpose: `24 rows to train on`."""
    rows: tuple[PreviewRow, ...]
    batches: tuple[PreviewBatch, ...]
    word: str = "trained"
    """Label of tokens with the role `trained`, for stages with another use for them."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreviewRequest:
    """Selection of the rows to preview."""

    rows: tuple[int | str, ...] = (1, 2)
    """Rows by number, counted from 1, or by `file:line`."""
    by_name: bool = False
    """True if the user named the rows: a missing row is then an error."""
    held_out: bool = False
    """Preview held-out rows instead of training rows."""


def counts_of(sequences: Sequence[TokenSequence]) -> dict[Role, int]:
    """Return the number of tokens of each role."""
    found = Counter(token.role for sequence in sequences for token in sequence.tokens)
    return {role: found[role] for role in ROLES}
