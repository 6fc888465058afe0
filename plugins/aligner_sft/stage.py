"""What the sft stage takes, reads and writes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aligner import Look, ModelState, Plan, Run, Stage
from aligner.data.spec import DataOptions, TrainOn
from aligner.models.spec import ModelOptions
from aligner.preview import Asked, Section
from aligner.train.spec import TrainOptions


class SFTOptions(DataOptions, ModelOptions, TrainOptions):
    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate; adapters usually want ten times that of full weights."""
    train_on: TrainOn = "weighted"
    """Whose tokens are learnt: the assistant's turns by their `weight` (all where none is given),
    every `assistant` turn, only the `last` one, or `everything`, the user's too."""
    packing: bool = False
    """Lay whole conversations end to end in rows of `max_length` tokens; they do not see one another."""
    loss: Literal["nll", "dft"] = "nll"
    """`nll`, the negative log-likelihood, or `dft`, which weighs each token by its own probability
    (Wu 2025)."""


class SFT(Stage[SFTOptions]):
    """Fine-tune the policy on conversations, single- and multi-turn, learning the assistant's part."""

    name = "sft"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def plan(self, look: Look) -> Plan:
        from aligner_sft.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.config, look)

    def preview(self, look: Look, asked: Asked) -> tuple[Section, ...]:
        from aligner_sft.preview import preview  # the collator waits until a recipe is looked at

        return preview(self.config, look, asked)

    def run(self, state: ModelState, run: Run) -> ModelState:
        from aligner_sft.train import train  # torch and trl wait until a step really runs

        return state.put(run.step, policy=train(self.config, state, run))
