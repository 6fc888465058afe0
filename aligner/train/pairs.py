"""Train on preference pairs by a loss of their log-probabilities. Shapes: B pairs, N = 2B completions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from aligner.train.logps import CompletionLogps, TokenLogps
from aligner.train.logps_method import LogpsMethod
from aligner.train.options import PreferenceOptions

P = TypeVar("P", bound=PreferenceOptions)


@dataclass(frozen=True, kw_only=True)
class PairLogps:
    """Log-probabilities of the completions of B pairs, summed over their tokens."""

    chosen_logps_B: Tensor
    rejected_logps_B: Tensor
    ref_chosen_logps_B: Tensor
    ref_rejected_logps_B: Tensor
    chosen: TokenLogps
    """Tokens of the chosen completions, and how many there are: `chosen.lengths_N`."""
    rejected: TokenLogps

    @classmethod
    def of(cls, batch: CompletionLogps) -> PairLogps:
        """Split a batch of 2B completions, the chosen ones first."""
        chosen_logps_B, rejected_logps_B = batch.logps_N.chunk(2)
        ref_chosen_logps_B, ref_rejected_logps_B = batch.ref_logps_N.chunk(2)
        chosen, rejected = batch.tokens.blocks(2)
        return cls(
            chosen_logps_B=chosen_logps_B,
            rejected_logps_B=rejected_logps_B,
            ref_chosen_logps_B=ref_chosen_logps_B,
            ref_rejected_logps_B=ref_rejected_logps_B,
            chosen=chosen,
            rejected=rejected,
        )

    @property
    def chosen_logratios_B(self) -> Tensor:
        """log π(chosen) - log π_ref(chosen)."""
        return self.chosen_logps_B - self.ref_chosen_logps_B

    @property
    def rejected_logratios_B(self) -> Tensor:
        """log π(rejected) - log π_ref(rejected)."""
        return self.rejected_logps_B - self.ref_rejected_logps_B


PreferenceLoss = Callable[[PairLogps, P], Tensor]
"""Loss of a batch of pairs under a stage's options: one number, or one a pair, which are averaged."""


class PreferenceMethod(LogpsMethod[P]):
    """Training on preference pairs by a loss of `PairLogps`."""

    sides = ("chosen", "rejected")

    def __init__(self, options: P, loss: PreferenceLoss[P]) -> None:
        super().__init__(options)
        self._pair_loss = loss
        self.disable_dropout = options.disable_dropout

    def loss(self, batch: CompletionLogps) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = PairLogps.of(batch)
        return self._pair_loss(pairs, self.options).mean(), _rewards(pairs, self.options.beta)


def _rewards(pairs: PairLogps, beta: float) -> dict[str, Tensor]:
    """Return rewards β·log(π/π_ref), how often the chosen one is larger, and log-probabilities."""
    chosen_B = beta * pairs.chosen_logratios_B.detach()
    rejected_B = beta * pairs.rejected_logratios_B.detach()
    return {
        "rewards/chosen": chosen_B,
        "rewards/rejected": rejected_B,
        "rewards/accuracies": (chosen_B > rejected_B).float(),
        "rewards/margins": chosen_B - rejected_B,
        "logps/chosen": pairs.chosen_logps_B.detach(),
        "logps/rejected": pairs.rejected_logps_B.detach(),
    }
