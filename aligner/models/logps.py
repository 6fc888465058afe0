"""Log-probabilities of tokens under a causal language model.

`token_logps` is for training: it runs the LM head on the scored tokens only, with gradients. `row_logps`
is for measuring: it takes any model whole and scores rows of a data set in batches.

Shapes: B rows, T columns, K columns whose logits are computed, M scored tokens of all rows,
H hidden size, V vocabulary size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aligner.models.language_model import LanguageModel
from aligner.models.padding import pad_right

LOGITS_AT_ONCE = 1 << 24
"""Logits that `token_logps` holds at a time (64 MiB in fp32)."""
LOGITS_PER_BATCH = 1 << 26
"""Logits that `row_logps` holds at a time (256 MiB in fp32), unless a single row needs more."""


def gather_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute log softmax(logits)[target] as logit[target] - logsumexp(logits).

    Args:
        logits: (…, V).
        targets: Token ids, (…) int64.

    Returns:
        Log-probabilities, (…). No (…, V) tensor of probabilities is made.
    """
    return logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)


def token_logps(
    model: LanguageModel,
    hidden_MH: Tensor,
    targets_M: Tensor,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute log-probabilities of tokens from hidden states, and entropies if requested.

    Beyond `LOGITS_AT_ONCE` the head runs in chunks, and the backward pass computes their logits again.

    Args:
        model: Its LM head is used.
        hidden_MH: Hidden state before each token.
        targets_M: The tokens.
        temperature: Divisor of the logits.
        entropy: Compute the entropy of each distribution, in nats.

    Returns:
        (logps_M, entropies_M or None), fp32.
    """

    def score(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.logits(hidden) / temperature
        log_normalizers = logits.logsumexp(-1)
        logps = logits.gather(-1, targets[:, None])[:, 0] - log_normalizers
        if not entropy:
            return logps, logps.new_zeros(())
        probabilities = (logits - log_normalizers[:, None]).exp()
        return logps, log_normalizers - (probabilities * logits).sum(-1)

    chunk = max(LOGITS_AT_ONCE // model.vocab_size, 1)
    if len(targets_M) <= chunk:
        logps_M, entropies_M = score(hidden_MH, targets_M)
    else:
        scored = [
            _checkpointed(score, hidden, targets)
            for hidden, targets in zip(
                torch.split(hidden_MH, chunk), torch.split(targets_M, chunk), strict=True
            )
        ]
        logps_M = torch.cat([logps for logps, _ in scored])
        entropies_M = torch.cat([entropies.view(-1) for _, entropies in scored])
    return logps_M, entropies_M if entropy else None


def _checkpointed(
    score: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], hidden: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    if not torch.is_grad_enabled():
        return score(hidden, targets)
    return checkpoint(score, hidden, targets, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ScoredRow:
    """Row of tokens with a mask of those that are scored."""

    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    """True for scored tokens. The first token is never scored: nothing predicts it."""

    @property
    def first(self) -> int:
        """Column of the first scored token; the row's length if there is none."""
        return next((i for i, scored in enumerate(self.mask) if scored and i), len(self.tokens))

    @staticmethod
    def pad(rows: Sequence[ScoredRow]) -> tuple[Tensor, Tensor]:
        """Pad rows on the right; return ids, (B, T) int64, and the mask of scored tokens, (B, T) bool."""
        return pad_right([row.tokens for row in rows], [row.mask for row in rows])


def row_logps(
    model: Any,
    rows: Sequence[ScoredRow],
    *,
    batch_size: int,
    finished: Callable[[int], None] = lambda count: None,
) -> list[Tensor]:
    """Compute log-probabilities of each row's scored tokens, given all tokens before them.

    Args:
        model: Causal language model in eval mode, with or without adapters of any kind.
        rows: Tokens and masks.
        batch_size: Most rows in a batch.
        finished: Called after each batch with its number of rows.

    Returns:
        A tensor per row, fp32 on the CPU, with a natural logarithm for each scored token.
    """
    found: dict[int, Tensor] = {}
    # Longest rows first: a batch that exceeds memory then fails at once.
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row].tokens))
    start = 0
    while start < len(order):
        batch = order[start : start + _batch_rows(model, rows, order[start:], batch_size)]
        found.update(zip(batch, _batch_logps(model, [rows[i] for i in batch]), strict=True))
        start += len(batch)
        finished(len(batch))
    return [found[row] for row in range(len(rows))]


def _batch_rows(model: Any, rows: Sequence[ScoredRow], order: Sequence[int], most: int) -> int:
    """Return how many of the rows at the front of `order` fit one batch."""
    width = len(rows[order[0]].tokens)
    vocab_size = int(model.config.get_text_config().vocab_size)
    first = width
    for count, row in enumerate(order[:most], start=1):
        first = min(first, rows[row].first)
        if count > 1 and count * (width - first + 1) * vocab_size > LOGITS_PER_BATCH:
            return count - 1
    return min(most, len(order))


@torch.no_grad()
def _batch_logps(model: Any, rows: Sequence[ScoredRow]) -> list[Tensor]:
    width = max(len(row.tokens) for row in rows)
    first = min(row.first for row in rows)
    if first == width:
        return [torch.zeros(0) for _ in rows]
    tokens_BT, mask_BT = ScoredRow.pad(rows)
    keep = width - first + 1
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    partial = "logits_to_keep" in inspect.signature(type(base).forward).parameters
    device = next(model.parameters()).device
    output = model(
        input_ids=tokens_BT.to(device),
        use_cache=False,
        **({"logits_to_keep": keep} if partial else {}),
    )
    # Prompt-learning adapters add columns in front, so columns are counted from the end.
    logits_BKV = output.logits[:, -keep:][:, :-1].float()
    logps_BK = gather_logps(logits_BKV, tokens_BT[:, first:].to(device)).cpu()
    return [logps[mask] for logps, mask in zip(logps_BK, mask_BT[:, first:], strict=True)]
