"""The rdpo stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aligner import PlanContext
from aligner.kit.declare import PreferenceStage
from aligner_brevity.options import RDPOOptions

if TYPE_CHECKING:
    from aligner.kit.work import PreferenceMethod


class RDPO(PreferenceStage[RDPOOptions]):
    """Train the policy on preference pairs without rewarding length (Park 2024)."""

    name = "rdpo"

    def summary(self, context: PlanContext) -> str:
        return f"{super().summary(context)}, alpha {self.options.alpha:g} a token"

    def method(self) -> PreferenceMethod[RDPOOptions]:
        from aligner.kit.work import PreferenceMethod  # torch loads only here
        from aligner_brevity.loss import rdpo_loss

        return PreferenceMethod(self.options, rdpo_loss)
