"""Declaration of the ppo stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aligner import Slot
from aligner.kit.declare import OnlineStage
from aligner_ppo.options import PPOOptions

if TYPE_CHECKING:
    from aligner_ppo.algorithm import PPOAlgorithm


class PPO(OnlineStage[PPOOptions]):
    """Train the policy on the rewards of its own responses by PPO, with a value function."""

    name = "ppo"
    provides = frozenset({"policy", "value"})

    @property
    def requires(self) -> frozenset[Slot]:
        needed = super().requires
        return needed | {"reward"} if self.options.value_from == "reward" else needed

    @property
    def uses(self) -> frozenset[Slot]:
        used = super().uses
        return used | {"value"} if self.options.value_from == "auto" else used

    def algorithm(self) -> PPOAlgorithm:
        from aligner_ppo.algorithm import PPOAlgorithm  # torch is imported when a step is planned

        return PPOAlgorithm(self.options)
