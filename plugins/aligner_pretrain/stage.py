"""What the pretrain stage takes, reads and writes."""

from __future__ import annotations

from pydantic import Field, model_validator

from aligner import ModelState, Plan, PlanContext, Slot, Stage, StepContext
from aligner.data.options import DataOptions
from aligner.models.options import FreshModel, ModelOptions
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.options import TrainOptions


class PretrainOptions(DataOptions, ModelOptions, TrainOptions):
    learning_rate: float = Field(3e-4, gt=0)
    """Peak learning rate."""
    stream: bool = True
    """Join the documents end to end and cut rows of `max_length` tokens from them, as is usual in
    pre-training; off, each document is a row of its own."""
    fresh: FreshModel | None = None
    """Begin with a new model of this shape and random weights, in place of one that comes in."""
    vocab_size: int = Field(1024, ge=260)
    """Tokens of the tokenizer that is trained on the data for a fresh model."""

    @model_validator(mode="after")
    def _fit_together(self) -> PretrainOptions:
        if self.stream and self.max_length is None:
            raise ValueError("stream needs max_length: how many tokens a row holds")
        if self.fresh and self.adapter:
            raise ValueError("a fresh model has nothing an adapter could build on: train it whole")
        return self


class Pretrain(Stage[PretrainOptions]):
    """Train a language model on plain text: further, or from nothing with a tokenizer of its own."""

    name = "pretrain"

    @property
    def requires(self) -> frozenset[Slot]:
        return frozenset() if self.options.fresh else frozenset({"policy", "tokenizer"})

    @property
    def provides(self) -> frozenset[Slot]:
        return frozenset({"policy", "tokenizer"} if self.options.fresh else {"policy"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_pretrain.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_pretrain.preview import (
            preview,
        )  # the collator waits until a recipe is looked at

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_pretrain.train import train  # torch and trl wait until a step really runs

        return state.put(context.step, **train(self.options, state, context))
