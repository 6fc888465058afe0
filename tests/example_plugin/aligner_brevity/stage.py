"""What the rdpo stage takes, reads and writes."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from aligner import ModelState, Plan, PlanContext, Stage, StepContext
from aligner.data.options import DataOptions
from aligner.models.options import ModelOptions
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.options import TrainOptions


class RDPOOptions(DataOptions, ModelOptions, TrainOptions):
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; adapters usually want ten times that of full weights or more."""
    beta: float = Field(0.1, gt=0)
    """How tightly the policy is held to the reference; larger is tighter (Rafailov 2023, eq. 7)."""
    alpha: float = Field(0.01, ge=0)
    """What each token by which the chosen answer is the longer one is taken to be worth by itself, in
    units of reward (Park 2024, section 3); 0 is plain DPO."""


class RDPO(Stage[RDPOOptions]):
    """Train the policy on preference pairs, and do not pay it for length (Park 2024)."""

    name = "rdpo"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_brevity.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> Sequence[PreviewSection]:
        from aligner_brevity.preview import preview  # torch waits until a recipe is looked at

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_brevity.train import train  # torch waits until a step really runs

        return state.put(context.step, policy=train(self.options, state, context))
