"""Batches of prompts and responses for one forward pass.

Shapes: B rows, T columns, H hidden size; M response tokens of all rows in one line, and
K = M + B states, which are each row's M states and the one after its last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Prompts with their responses, padded on the right, and where the responses are."""

    tokens_BT: Tensor
    rows_K: Tensor
    """The row of each state."""
    columns_K: Tensor
    """The column of each state: the token that was last when the next one was chosen."""
    chosen_K: Tensor
    """True where a token was chosen after the state, so M of them; false on a row's last state."""
    targets_M: Tensor
    """The tokens chosen."""

    def states(self, hidden_BTH: Tensor) -> Tensor:
        """The hidden states (K, H) that values are read from."""
        return hidden_BTH[self.rows_K, self.columns_K]


def rows_of(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device
) -> Rows:
    """Lay prompts and responses out for one forward pass. What pads them is never looked at."""
    width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    chosen: list[bool] = []
    targets: list[int] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        first, length = len(prompt), len(response)
        tokens_BT[row, : first + length] = torch.tensor([*prompt, *response])
        rows += [row] * (length + 1)
        columns += range(first - 1, first + length)
        chosen += [True] * length + [False]
        targets += response
    return Rows(
        tokens_BT=tokens_BT.to(device),
        rows_K=torch.tensor(rows, device=device),
        columns_K=torch.tensor(columns, device=device),
        chosen_K=torch.tensor(chosen, device=device),
        targets_M=torch.tensor(targets, device=device),
    )
