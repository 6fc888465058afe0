"""The R-DPO loss. Shapes: B pairs."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from aligner.kit.work import PairLogps
from aligner_brevity.options import RDPOOptions


def rdpo_loss(pairs: PairLogps, options: RDPOOptions) -> Tensor:
    """Return -log σ(β(r_w - r_l) + α(|y_w| - |y_l|)) of each pair (Park 2024, arXiv:2403.19159).

    r_w and r_l are the log-ratios log π/π_ref of the chosen and the rejected completion, |y| their
    numbers of tokens: a chosen completion that is longer needs less of a margin.
    """
    margin_B = pairs.chosen_logratios_B - pairs.rejected_logratios_B
    longer_B = pairs.chosen.lengths_N - pairs.rejected.lengths_N
    return -logsigmoid(options.beta * margin_B + options.alpha * longer_B)
