"""What the reward stage takes, reads and writes."""

from __future__ import annotations

from pydantic import Field

from aligner import ModelState, Plan, PlanContext, Slot, Stage, StepContext
from aligner.data.options import DataOptions
from aligner.models.options import ModelOptions
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.options import TrainOptions


class RewardOptions(DataOptions, ModelOptions, TrainOptions):
    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate; adapters usually want ten times that of full weights."""
    base: str | None = None
    """Model to begin from, a folder or hub id, with a tokenizer and chat template of its own; by
    default the weights of the chain's policy, which is left as it is."""
    revision: str | None = None
    """Commit, tag or branch of `base` on the hub."""
    margin: bool = True
    """Use the margins that the data gives, where it gives any (Touvron 2023, section 3.2.2)."""
    center_rewards_coefficient: float | None = Field(None, gt=0)
    """Weight of the square of the two rewards' sum, which keeps rewards around zero (Eisenstein 2023)."""
    disable_dropout: bool = True
    """Switch the model's dropout off."""


class Reward(Stage[RewardOptions]):
    """Train a model to score answers as people's preferences do (Bradley–Terry)."""

    name = "reward"
    provides = frozenset({"reward"})

    @property
    def requires(self) -> frozenset[Slot]:
        return frozenset() if self.options.base else frozenset({"policy", "tokenizer"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_reward.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_reward.preview import preview  # the collator waits until a recipe is looked at

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_reward.train import train  # torch and trl wait until a step really runs

        return state.put(context.step, reward=train(self.options, state, context))
