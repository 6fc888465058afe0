"""Train on preference pairs by the losses of DPO, and verify the reference in the first loss."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from aligner import ModelState, StageError, StepContext
from aligner.kit.work import PreferenceMethod, TokenLogps, precision_of
from aligner_dpo.loss import dpo_loss
from aligner_dpo.options import DPOOptions

_TOLERANCE = {"fp32": 1e-4}
"""Allowed difference of the first loss from ln 2; other precisions round more."""


class DPOMethod(PreferenceMethod[DPOOptions]):
    """Training by `dpo_loss`, relative to the incoming policy unless the slot has another model."""

    def __init__(self, options: DPOOptions) -> None:
        super().__init__(options, dpo_loss)

    def sum_logps(self, tokens: TokenLogps) -> Tensor:
        return tokens.sum_N(ld_alpha=self.options.ld_alpha)

    def statistics(self) -> tuple[str, ...]:
        return ("log_sum_sq_probs",) if self.options.use_weighting else ()

    def check(self, first: Mapping[str, float], state: ModelState, context: StepContext) -> None:
        """Raise StageError unless the first loss is ln 2: then policy and reference are equal."""
        options = self.options
        plain = options.loss_type == ("sigmoid",) and not options.use_weighting
        if not plain or not options.disable_dropout or state.reference or "loss" not in first:
            return
        tolerance = _TOLERANCE.get(precision_of(options.precision), 0.05)
        if not math.isclose(first["loss"], math.log(2), abs_tol=tolerance):
            raise StageError(
                f"the first loss is {first['loss']:.6f}, not ln 2 = {math.log(2):.6f}: "
                "the reference is not the policy that came in",
                where=context.where,
                hint="this is an error in aligner or in a plugin of an earlier step; please report it",
            )
