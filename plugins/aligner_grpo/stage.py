"""Declaration of the grpo stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aligner.kit.declare import OnlineStage
from aligner_grpo.options import GRPOOptions

if TYPE_CHECKING:
    from aligner_grpo.algorithm import GRPOAlgorithm


class GRPO(OnlineStage[GRPOOptions]):
    """Train the policy on the rewards of its own responses, compared within groups, by GRPO."""

    name = "grpo"

    def algorithm(self) -> GRPOAlgorithm:
        from aligner_grpo.algorithm import GRPOAlgorithm  # torch is imported when a step is planned

        return GRPOAlgorithm(self.options)
