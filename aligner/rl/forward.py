"""Batches of prompts and responses for one forward pass.

Shapes: B rows, T columns, H hidden width; M response tokens of all rows in one row without padding;
K = M + B states: each row's states before its tokens and the one after the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ResponseBatch:
    """Prompts with their responses, padded on the right, and the positions of the responses."""

    tokens_BT: Tensor
    rows_K: Tensor
    """Row of each state."""
    columns_K: Tensor
    """Column of each state: that of the last token before the next one is sampled."""
    sampled_K: Tensor
    """True where a token was sampled from the state, M of them; false on the last state of a row."""
    targets_M: Tensor
    """Tokens sampled."""

    def states(self, hidden_BTH: Tensor) -> Tensor:
        """Select the hidden states (K, H)."""
        return hidden_BTH[self.rows_K, self.columns_K]


def response_batch(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device
) -> ResponseBatch:
    """Join prompts and responses for one forward pass. Padding is never read."""
    width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    sampled: list[bool] = []
    targets: list[int] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        first, length = len(prompt), len(response)
        tokens_BT[row, : first + length] = torch.tensor([*prompt, *response])
        rows += [row] * (length + 1)
        columns += range(first - 1, first + length)
        sampled += [True] * length + [False]
        targets += response
    return ResponseBatch(
        tokens_BT=tokens_BT.to(device),
        rows_K=torch.tensor(rows, device=device),
        columns_K=torch.tensor(columns, device=device),
        sampled_K=torch.tensor(sampled, device=device),
        targets_M=torch.tensor(targets, device=device),
    )
