"""Options of the sft stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aligner.kit.declare import OfflineOptions, TrainOn


class SFTOptions(OfflineOptions):
    """Options of supervised fine-tuning."""

    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate; adapters usually need ten times that of full weights."""
    train_on: TrainOn = "weighted"
    """Tokens that are trained: assistant turns by their `weight` (all where no weight is given),
    every `assistant` turn, only the `last` one, or `everything`, the user's turns too."""
    packing: bool = False
    """Pack whole conversations into rows of `max_length` tokens; they do not see one another."""
    loss_type: Literal["nll", "dft"] = "nll"
    """Loss of a token: `nll`, its negative log-likelihood, or `dft`, which weights that by the
    token's own probability (Wu 2025)."""

    @model_validator(mode="after")
    def _packing_needs_a_length(self) -> SFTOptions:
        if self.packing and self.max_length is None:
            raise ValueError("packing needs max_length, the number of tokens of a packed row")
        return self
