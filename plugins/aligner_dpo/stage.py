"""The dpo stage: direct preference optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aligner import PlanContext
from aligner.kit.declare import PreferenceStage
from aligner_dpo.options import DPOOptions

if TYPE_CHECKING:
    from aligner_dpo.trainer import DPOMethod


class DPO(PreferenceStage[DPOOptions]):
    """Train the policy on preference pairs directly, without a reward model."""

    name = "dpo"

    def summary(self, context: PlanContext) -> str:
        options = self.options
        return (
            f"prefer chosen over rejected, {' + '.join(options.loss_type)}, beta {options.beta:g}, "
            f"learning rate {options.learning_rate:g}"
        )

    def method(self) -> DPOMethod:
        from aligner_dpo.trainer import DPOMethod

        return DPOMethod(self.options)
