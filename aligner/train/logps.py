"""Log-probabilities of the completions of a batch.

Shapes: B rows, K completions a row, N = K·B sequences (for pairs, B chosen then B rejected), T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenLogps:
    """Per-token log-probabilities of completions under the policy; 0 outside completions."""

    logps_NT: Tensor
    mask_NT: Tensor
    """True on completion tokens."""
    log_sum_sq_probs_NT: Tensor | None = None
    """log Σ_v π(v)² over the vocabulary; None unless the method asks for it."""

    @property
    def lengths_N(self) -> Tensor:
        """Number of tokens of each completion."""
        return self.mask_NT.sum(1)

    def blocks(self, count: int) -> list[TokenLogps]:
        """Split into `count` blocks of equally many completions."""
        squares = self.log_sum_sq_probs_NT
        return [
            TokenLogps(logps_NT=logps_BT, mask_NT=mask_BT, log_sum_sq_probs_NT=squares_BT)
            for logps_BT, mask_BT, squares_BT in zip(
                self.logps_NT.chunk(count),
                self.mask_NT.chunk(count),
                [None] * count if squares is None else squares.chunk(count),
                strict=True,
            )
        ]


@dataclass(frozen=True, kw_only=True)
class CompletionLogps:
    """A batch of completions under policy and reference."""

    tokens: TokenLogps
    logps_N: Tensor
    """Log-probabilities under the policy, summed over tokens."""
    ref_logps_N: Tensor
    """The same under the reference, without a gradient."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """Further columns of the rows, (B,) each."""
