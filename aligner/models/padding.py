"""Pad rows of tokens into batches, on the left for generation and on the right for scoring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aligner.errors import ModelError


def pad_left(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Pad rows on the left, so that generation continues all of them in the same column.

    Returns:
        Ids and attention mask, (B, T) int64 each; the mask is 1 on tokens and 0 on padding, whose id is 0.
    """
    width = max(map(len, rows))
    tokens_BT = torch.zeros(len(rows), width, dtype=torch.long)
    mask_BT = torch.zeros_like(tokens_BT)
    for index, row in enumerate(rows):
        tokens_BT[index, width - len(row) :] = torch.tensor(row)
        mask_BT[index, width - len(row) :] = 1
    return tokens_BT, mask_BT


def pad_right(
    rows: Sequence[Sequence[int]], scored: Sequence[Sequence[bool]]
) -> tuple[Tensor, Tensor]:
    """Pad rows on the right.

    Tokens of a causal model never attend to their right, so padding there needs no attention mask.

    Returns:
        Ids, (B, T) int64, 0 for padding, and the mask of scored tokens, (B, T) bool. The first column is
        never scored: nothing predicts it.
    """
    tokens_BT, _ = pad_with_lengths(rows)
    scored_BT = torch.zeros(tokens_BT.shape, dtype=torch.bool)
    for index, (row, mask) in enumerate(zip(rows, scored, strict=True)):
        scored_BT[index, 1 : len(row)] = torch.tensor(mask[1:])
    return tokens_BT, scored_BT


def pad_with_lengths(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Pad rows on the right; return ids, (B, T) int64, 0 for padding, and lengths, (B,) int64."""
    lengths_B = torch.tensor([len(row) for row in rows])
    tokens_BT = torch.zeros(len(rows), int(lengths_B.max()), dtype=torch.long)
    for index, row in enumerate(rows):
        tokens_BT[index, : len(row)] = torch.tensor(row)
    return tokens_BT, lengths_B


def map_longest_first(
    rows: Sequence[Sequence[int]],
    measure: Callable[[Sequence[Sequence[int]]], Sequence[float]],
    *,
    batch_size: int,
) -> list[float]:
    """Apply `measure` to batches of rows of similar length; return its numbers in the order of `rows`."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    found = [0.0] * len(rows)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for index, value in zip(batch, measure([rows[i] for i in batch]), strict=True):
            found[index] = value
    return found


def pad_id(tokenizer: Any) -> int:
    """Return the id of the padding token, or of the eos token if there is none.

    Raises:
        ModelError: there is neither.
    """
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if found is None:
        raise ModelError(
            "the tokenizer has neither a pad token nor an eos token",
            hint="add a `chat` step before this one, which sets both",
        )
    return int(found)
