"""How a recipe says how to train: the options every training stage has, light enough to declare."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aligner.stage import StageOptions

Schedule = Literal[
    "linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"
]
Optimizer = Literal[
    "adamw_torch", "adafactor", "sgd", "lion_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"
]


class TrainOptions(StageOptions):
    """Options of optimisation, the same words and meanings in every stage."""

    num_train_epochs: float = Field(1.0, gt=0)
    """Passes over the training rows; a fraction is allowed."""
    max_steps: int | None = Field(None, gt=0)
    """Optimizer steps in all; overrules `num_train_epochs`."""
    per_device_train_batch_size: int = Field(8, gt=0)
    """Rows (or pairs) a device holds at once."""
    gradient_accumulation_steps: int = Field(1, gt=0)
    """Batches whose gradients are added up before each optimizer step."""
    optim: Optimizer = "adamw_torch"
    """The optimizer; those with 8bit need the `quantize` extra."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (Loshchilov & Hutter 2019), on matrices only."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of Adam's running mean of the gradients."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of Adam's running mean of the squared gradients."""
    lr_scheduler_type: Schedule = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_steps: float = Field(0.0, ge=0)
    """Share of the optimizer steps (below 1), or their number (from 1 on), in which the rate rises."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    train_sampling_strategy: Literal["group_by_length", "random"] = "group_by_length"
    """Put rows of like length in one batch, the longest first: less padding, and memory is proven at once."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more time, far less memory."""
    logging_steps: int = Field(10, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between two points of the curves."""
    save_steps: int | None = Field(None, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between checkpoints; by default a tenth of the steps, at least 50."""
    eval_steps: int | None = Field(None, gt=0)
    """Optimizer steps between measurements on the held-out rows; by default only at the end."""
    early_stopping_patience: int | None = Field(None, gt=0)
    """Stop after this many measurements without a better held-out loss, and keep the best weights."""

    @model_validator(mode="after")
    def _early_stopping_needs_measurements(self) -> TrainOptions:
        if self.early_stopping_patience is not None and self.eval_steps is None:
            raise ValueError("early_stopping_patience needs eval_steps: how often to measure")
        return self
