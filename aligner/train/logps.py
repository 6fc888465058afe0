"""Log-probabilities of the completions of a batch.

Shapes: B rows, K completions a row, N = K·B sequences (for pairs, B chosen then B rejected), T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
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

    def sum_N(self, *, ld_alpha: float | None = None) -> Tensor:
        """Sum log-probabilities over the tokens of each completion.

        Args:
            ld_alpha: For pairs: weight α of tokens beyond the length of the shorter completion of the
                pair, Σ_{t ≤ shared} log π_t + α·Σ_{t > shared} log π_t (LD-DPO, Liu 2024,
                arXiv:2409.06411). None counts all tokens fully.
        """
        if ld_alpha is None:
            return self.logps_NT.sum(dim=1)
        shared_B = torch.minimum(*self.lengths_N.chunk(2))
        position_NT = self.mask_NT.cumsum(dim=1)  # 1 at the first token of the completion
        is_shared_NT = position_NT <= torch.cat([shared_B, shared_B]).unsqueeze(1)
        shared_N = (self.logps_NT * (self.mask_NT & is_shared_NT)).sum(dim=1)
        return shared_N + ld_alpha * (self.logps_NT * (self.mask_NT & ~is_shared_NT)).sum(dim=1)

    def likelihood_N(self) -> Tensor:
        """Return exp(mean_t [log π(y_t) - log Σ_v π(v)²]), without a gradient.

        It is 1 where tokens are as likely as those that the policy samples (WPO, Zhou 2024,
        arXiv:2406.11827, eq. 2). The method's `statistics` must ask for `log_sum_sq_probs`.
        """
        assert self.log_sum_sq_probs_NT is not None, "statistics() lacks log_sum_sq_probs"
        with torch.no_grad():
            aligned_NT = (self.logps_NT - self.log_sum_sq_probs_NT) * self.mask_NT
            return torch.exp(aligned_NT.sum(dim=1) / self.lengths_N.clamp(min=1))

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
    """Tokens of the completions with a gradient."""
    logps_N: Tensor
    """Log-probabilities under the policy, summed over tokens."""
    ref_logps_N: Tensor
    """The same under the reference, without a gradient."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """Further columns of the rows, (B,) each."""
