"""What the sft stage takes, reads and writes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aligner import ModelState, Plan, PlanContext, Stage, StepContext
from aligner.data.options import DataOptions, TrainOn
from aligner.models.options import ModelOptions
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.options import TrainOptions


class SFTOptions(DataOptions, ModelOptions, TrainOptions):
    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate; adapters usually want ten times that of full weights."""
    train_on: TrainOn = "weighted"
    """Whose tokens are learnt: the assistant's turns by their `weight` (all where none is given),
    every `assistant` turn, only the `last` one, or `everything`, the user's too."""
    packing: bool = False
    """Lay whole conversations end to end in rows of `max_length` tokens; they do not see one another."""
    loss_type: Literal["nll", "dft"] = "nll"
    """`nll`, the negative log-likelihood, or `dft`, which weighs each token by its own probability
    (Wu 2025)."""


class SFT(Stage[SFTOptions]):
    """Fine-tune the policy on conversations, single- and multi-turn, learning the assistant's part."""

    name = "sft"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_sft.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_sft.preview import preview  # the collator waits until a recipe is looked at

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_sft.train import train  # torch and trl wait until a step really runs

        return state.put(context.step, policy=train(self.options, state, context))
