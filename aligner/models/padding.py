"""Lay rows of unlike length in one tensor, the way models that answer and models that are measured want."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aligner.errors import ModelError


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids that all end in the last column, where a model goes on writing.

    Returns:
        Ids and mask, (B, T) int64 each; the mask is 1 on tokens and 0 on padding, whose id is 0.
    """
    width = max(map(len, rows))
    tokens_BT = torch.zeros(len(rows), width, dtype=torch.long)
    mask_BT = torch.zeros_like(tokens_BT)
    for place, row in enumerate(rows):
        tokens_BT[place, width - len(row) :] = torch.tensor(row)
        mask_BT[place, width - len(row) :] = 1
    return tokens_BT, mask_BT


def right_padded(
    rows: Sequence[Sequence[int]], counted: Sequence[Sequence[bool]]
) -> tuple[Tensor, Tensor]:
    """Token ids that begin in the first column, and which of them count.

    A causal model's tokens never see what stands to their right, so padding needs no mask there.

    Returns:
        Ids, (B, T) int64, 0 where padded, and whether each counts, (B, T) bool. The first column never
        counts, since nothing predicts it.
    """
    tokens_BT, _ = from_the_left(rows)
    counted_BT = torch.zeros(tokens_BT.shape, dtype=torch.bool)
    for place, (row, counts) in enumerate(zip(rows, counted, strict=True)):
        counted_BT[place, 1 : len(row)] = torch.tensor(counts[1:])
    return tokens_BT, counted_BT


def from_the_left(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids that begin in the first column, (B, T) int64, 0 where padded; and lengths, (B,) int64."""
    lengths_B = torch.tensor([len(row) for row in rows])
    tokens_BT = torch.zeros(len(rows), int(lengths_B.max()), dtype=torch.long)
    for place, row in enumerate(rows):
        tokens_BT[place, : len(row)] = torch.tensor(row)
    return tokens_BT, lengths_B


def longest_first(
    rows: Sequence[Sequence[int]],
    measure: Callable[[Sequence[Sequence[int]]], Sequence[float]],
    *,
    batch_size: int,
) -> list[float]:
    """What `measure` says of each row, asked in batches of rows of like length; in the order of `rows`."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    found = [0.0] * len(rows)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        for place, one in zip(places, measure([rows[place] for place in places]), strict=True):
            found[place] = one
    return found


def pad_id(tokenizer: Any) -> int:
    """The token that fills rows up in training: `pad`, or `eos` where there is none.

    Raises:
        ModelError: there is neither.
    """
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if found is None:
        raise ModelError(
            "the tokenizer has neither a pad token nor an eos token to fill rows up with",
            hint="put a step before this one that gives it both: `stage: chat`",
        )
    return int(found)
