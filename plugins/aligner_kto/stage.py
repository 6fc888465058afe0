"""The kto stage: Kahneman-Tversky optimization."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from aligner import PlanContext
from aligner.kit.declare import PreferenceStage
from aligner_kto.options import KTOOptions

if TYPE_CHECKING:
    from aligner_kto.trainer import KTOMethod


class KTO(PreferenceStage[KTOOptions]):
    """Train the policy on completions labeled desirable or undesirable, without pairs."""

    name = "kto"
    reads = "label"
    metrics = MappingProxyType({"loss": "loss", "accuracy": "rewards/accuracies", "kl": "kl"})

    def summary(self, context: PlanContext) -> str:
        options = self.options
        weights = f"{options.desirable_weight:g} and {options.undesirable_weight:g}"
        return (
            f"prefer desirable completions, {options.loss_type}, beta {options.beta:g}, "
            f"weights {weights}, learning rate {options.learning_rate:g}"
        )

    def method(self) -> KTOMethod:
        from aligner_kto.trainer import KTOMethod

        return KTOMethod(self.options)
