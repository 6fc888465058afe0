"""Values of a preview: the rows of a step as tokens, each with its role in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal["trained", "masked", "padding"]
"""`trained`: has a loss. `masked`: context without a loss. `padding`: ignored by the model."""
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class PreviewToken:
    """A token of a batch.

    >>> PreviewToken(7, " cat", "trained").text
    ' cat'
    """

    id: int
    text: str
    """Decoded text; bytes that are not a whole character are written as `\\xf0`."""
    role: Role
    special: bool = False
    """True for a special token such as `<|im_end|>`."""


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """A sequence of a batch, including padding."""

    name: str
    """Name among the sequences of a row, such as `chosen`; empty if there is only one."""
    tokens: tuple[PreviewToken, ...]
    boundaries: Mapping[int, str] = field(default_factory=dict)
    """Title of each row in a packed sequence, by the position of its first token."""
    notes: tuple[str, ...] = ()
    """Remarks, such as the token that ends the answer."""
    warnings: tuple[str, ...] = ()
    """Probable mistakes, such as a stop token that is not trained."""

    @property
    def counts(self) -> Mapping[Role, int]:
        """Number of tokens per role."""
        return count_roles([self])


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """A row as the model gets it: one sequence, or several that are compared."""

    number: int
    """Number of the row in its split, from 1."""
    title: str
    origin: str
    """File and line of the row, `talks.jsonl:17`."""
    sequences: tuple[TokenSequence, ...]
    prompt_length: int = 0
    """Number of tokens at the start that all sequences share: the prompt of several answers."""
    details: tuple[str, ...] = ()
    """Further facts about the row, such as its label."""


@dataclass(frozen=True, kw_only=True)
class PreviewBatch:
    """Size and roles of the batch that contains the previewed rows."""

    title: str
    """Rows that the batch contains: `rows 1 to 3`."""
    num_sequences: int
    sequence_length: int
    counts: Mapping[Role, int]
    """Number of tokens per role in all sequences of the batch."""


@dataclass(frozen=True, kw_only=True)
class PreviewSection:
    """Rows of one data set of a step."""

    option: str
    """Option that names the data."""
    title: str
    """Description of the data: `24 rows to train on`."""
    rows: tuple[PreviewRow, ...]
    batches: tuple[PreviewBatch, ...]
    trained_label: str = "trained"
    """Label of the role `trained`, for stages that compute another value on these tokens."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreviewRequest:
    """The rows to preview."""

    rows: tuple[int | str, ...] = (1, 2)
    """Rows by number, from 1, or by file and line, `talks.jsonl:17`."""
    required: bool = False
    """True if a row that does not exist is an error; otherwise the rows that exist are shown."""
    held_out: bool = False
    """True to show validation rows instead of training rows."""


def count_roles(sequences: Sequence[TokenSequence]) -> dict[Role, int]:
    """Return the number of tokens per role."""
    counts = Counter(token.role for sequence in sequences for token in sequence.tokens)
    return {role: counts[role] for role in ROLES}
