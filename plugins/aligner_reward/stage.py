"""The reward stage: a model that scores completions."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from aligner import PlanContext, Slot
from aligner.kit.declare import OfflineStage
from aligner_reward.options import RewardModelOptions

if TYPE_CHECKING:
    from aligner_reward.trainer import RewardMethod


class Reward(OfflineStage[RewardModelOptions]):
    """Train a model to score preferred completions higher (Bradley-Terry)."""

    name = "reward"
    reads = "preference"
    trains = "reward"
    metrics = MappingProxyType({"loss": "loss", "accuracy": "accuracy"})

    @property
    def requires(self) -> frozenset[Slot]:
        return frozenset() if self.options.base else frozenset({"policy", "tokenizer"})

    def summary(self, context: PlanContext) -> str:
        start = self.options.base or f"{context.slots['policy'].made_by}'s policy"
        rate = self.options.learning_rate
        return f"score completions as preferred, from {start}, learning rate {rate:g}"

    def method(self) -> RewardMethod:
        from aligner_reward.trainer import RewardMethod

        return RewardMethod(self.options)
