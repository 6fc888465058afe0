"""How likely a model finds given tokens: losses, perplexities and distances between models.

Shapes: B rows, T columns, K columns whose logits are needed, V words.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aligner.models.padding import right_padded

LOGITS_AT_ONCE = 1 << 26
"""Logits computed at one time (256 MiB in fp32), unless a single row needs more."""


@dataclass(frozen=True)
class Marked:
    """A row of tokens, and which of them count."""

    tokens: tuple[int, ...]
    counted: tuple[bool, ...]
    """One a token; the first can never count, since nothing predicts it."""

    @property
    def first(self) -> int:
        """Where the first counted token stands; the row's length if none does."""
        return next((i for i, one in enumerate(self.counted) if one and i), len(self.tokens))


def token_logps(
    model: Any,
    rows: Sequence[Marked],
    *,
    batch_size: int,
    finished: Callable[[int], None] = lambda count: None,
) -> list[Tensor]:
    """Log-probabilities of each row's counted tokens, given all before them.

    Args:
        model: A causal language model in eval mode.
        rows: What to look at.
        batch_size: Rows computed at one time, at most.
        finished: Hears, after each batch, how many rows it held.

    Returns:
        A tensor a row, fp32, on the CPU, as long as the row has counted tokens. Natural logarithms.
    """
    found: dict[int, Tensor] = {}
    # The longest go first, so that what does not fit in memory shows at once.
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row].tokens))
    place = 0
    while place < len(order):
        part = order[place : place + _fitting(model, rows, order[place:], batch_size)]
        found.update(zip(part, _batch_logps(model, [rows[i] for i in part]), strict=True))
        place += len(part)
        finished(len(part))
    return [found[row] for row in range(len(rows))]


def loss_and_perplexity(logps: Sequence[Tensor]) -> tuple[float, float]:
    """Mean negative log-probability a token, in nats, over the tokens of all rows; and its exponential.

    Each token weighs the same, whatever the length of its row.
    """
    tokens = torch.cat(list(logps)).double()
    loss = -float(tokens.mean())
    return loss, math.exp(min(loss, 700.0))


@dataclass(frozen=True)
class Distance:
    """Estimates of KL(policy || other) a token, in nats, from samples of the policy."""

    k1: float
    """Mean of log p/q: unbiased, may be negative, noisy."""
    k3: float
    """Mean of q/p - 1 - log q/p: unbiased as well, never negative, less noisy while p and q are near."""


def distance(policy: Sequence[Tensor], other: Sequence[Tensor]) -> Distance:
    """KL(policy || other) a token, over all tokens of all answers (Schulman 2020, "Approximating KL
    Divergence": k1 and k3, with p the policy and q the other model).

    Args:
        policy: The policy's log-probabilities of tokens that it sampled, uncut and at temperature 1.
        other: The other model's, of the same tokens.
    """
    log_ratio = torch.cat(list(other)).double() - torch.cat(list(policy)).double()
    return Distance(
        k1=0.0 - float(log_ratio.mean()), k3=float((torch.expm1(log_ratio) - log_ratio).mean())
    )


def _fitting(model: Any, rows: Sequence[Marked], order: Sequence[int], batch_size: int) -> int:
    """How many of the rows at the front of `order` share a batch."""
    width = len(rows[order[0]].tokens)
    vocab_size = int(model.config.get_text_config().vocab_size)
    first = width
    for count, row in enumerate(order[:batch_size], start=1):
        first = min(first, rows[row].first)
        if count > 1 and count * (width - first + 1) * vocab_size > LOGITS_AT_ONCE:
            return count - 1
    return min(batch_size, len(order))


def batch_of(rows: Sequence[Marked]) -> tuple[Tensor, Tensor]:
    """Ids of rows, (B, T) int64, and which of them count, (B, T) bool."""
    return right_padded([row.tokens for row in rows], [row.counted for row in rows])


@torch.no_grad()
def _batch_logps(model: Any, rows: Sequence[Marked]) -> list[Tensor]:
    width = max(len(row.tokens) for row in rows)
    first = min(row.first for row in rows)
    if first == width:
        return [torch.zeros(0) for _ in rows]
    tokens_BT, counted_BT = batch_of(rows)
    keep = width - first + 1
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    cut = "logits_to_keep" in inspect.signature(type(base).forward).parameters
    device = next(model.parameters()).device
    output = model(
        input_ids=tokens_BT.to(device), use_cache=False, **({"logits_to_keep": keep} if cut else {})
    )
    # Prompt-learning adapters put columns of their own in front.
    logits_BKV = output.logits[:, -keep:][:, :-1].float()
    targets_BK = tokens_BT[:, first:].to(device)
    logps_BK = logits_BKV.gather(2, targets_BK[..., None])[..., 0] - logits_BKV.logsumexp(-1)
    logps_BK, counted_BK = logps_BK.cpu(), counted_BT[:, first:]
    return [logps[counted] for logps, counted in zip(logps_BK, counted_BK, strict=True)]
