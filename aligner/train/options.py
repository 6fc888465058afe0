"""How a recipe says how to train: the options every training stage has, light enough to declare."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aligner.stage import StageOptions

Schedule = Literal[
    "linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"
]
Optimizer = Literal["adamw", "adafactor", "sgd", "lion_8bit", "adamw_8bit", "paged_adamw_8bit"]


class TrainOptions(StageOptions):
    """Options of optimisation, the same words and meanings in every stage."""

    epochs: float = Field(1.0, gt=0)
    """Passes over the training rows; a fraction is allowed."""
    max_steps: int | None = Field(None, gt=0)
    """Optimizer steps in all; overrules `epochs`."""
    batch_size: int = Field(8, gt=0)
    """Rows (or pairs) a device holds at once."""
    accumulate: int = Field(1, gt=0)
    """Batches whose gradients are added up before each optimizer step."""
    optimizer: Optimizer = "adamw"
    """The optimizer; those with 8bit need the `quantize` extra."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (Loshchilov & Hutter 2019), on matrices only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two running means."""
    schedule: Schedule = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(0.0, ge=0)
    """Share of the optimizer steps (below 1), or their number (from 1 on), in which the rate rises."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    group_by_length: bool = True
    """Put rows of like length in one batch, the longest first: less padding, and memory is proven at once."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more time, far less memory."""
    log_every: int = Field(10, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between two points of the curves."""
    checkpoint_every: int | None = Field(None, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between checkpoints; by default a tenth of the steps, at least 50."""
    evaluate_every: int | None = Field(None, gt=0)
    """Optimizer steps between measurements on the held-out rows; by default only at the end."""
    early_stopping: int | None = Field(None, gt=0)
    """Stop after this many measurements without a better held-out loss, and keep the best weights."""

    @model_validator(mode="after")
    def _early_stopping_needs_measurements(self) -> TrainOptions:
        if self.early_stopping is not None and self.evaluate_every is None:
            raise ValueError("early_stopping needs evaluate_every: how often to measure")
        return self
