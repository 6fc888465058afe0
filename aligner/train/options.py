"""Options of training, the same in every stage that trains; light enough to declare."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aligner.data.options import DataOptions
from aligner.models.options import ModelOptions
from aligner.stage import StageOptions

Scheduler = Literal[
    "linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"
]
Optimizer = Literal[
    "adamw_torch", "adafactor", "sgd", "lion_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"
]


class TrainOptions(StageOptions):
    """Options of optimization, named as in transformers' `TrainingArguments`."""

    num_train_epochs: float = Field(1.0, gt=0)
    """Passes over the training rows; a fraction is allowed."""
    max_steps: int | None = Field(None, gt=0)
    """Optimizer steps in all; overrides `num_train_epochs`."""
    per_device_train_batch_size: int = Field(8, gt=0)
    """Rows (or pairs) in a batch of one device."""
    gradient_accumulation_steps: int = Field(1, gt=0)
    """Batches whose gradients are added up before each optimizer step."""
    optim: Optimizer = "adamw_torch"
    """Optimizer; those with 8bit need the `quantize` extra."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (Loshchilov & Hutter 2019), on matrices only."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of Adam's running mean of the gradients."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of Adam's running mean of the squared gradients."""
    lr_scheduler_type: Scheduler = "linear"
    """Schedule of the learning rate after the warmup."""
    warmup_steps: float = Field(0.0, ge=0)
    """Optimizer steps in which the learning rate rises: their number from 1 on, a share below 1."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm to which larger gradients are scaled down."""
    train_sampling_strategy: Literal["group_by_length", "random", "sequential"] = "group_by_length"
    """Order of rows: `group_by_length` puts rows of similar length in one batch, the longest first,
    which saves padding and shows at once if memory suffices; `random` does not; `sequential` keeps
    the order of the data in every epoch."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more time, far less memory."""
    logging_steps: int = Field(10, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between two entries of the log."""
    save_steps: int | None = Field(None, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between checkpoints; by default a tenth of the steps, at least 50."""
    eval_steps: int | None = Field(None, gt=0)
    """Optimizer steps between evaluations on the held-out rows; by default only at the end."""
    early_stopping_patience: int | None = Field(None, gt=0)
    """Stop after this many evaluations without a lower held-out loss, and keep the best weights."""

    @model_validator(mode="after")
    def _early_stopping_needs_evaluations(self) -> TrainOptions:
        if self.early_stopping_patience is not None and self.eval_steps is None:
            raise ValueError("early_stopping_patience needs eval_steps: how often to evaluate")
        return self


class OfflineOptions(DataOptions, ModelOptions, TrainOptions):
    """Options of data, model and training; an offline stage inherits these and adds its own."""

    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate; adapters usually need ten times that of full weights."""


class PreferenceOptions(OfflineOptions):
    """Options of a stage that trains on preference pairs, relative to a reference."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; adapters usually need ten times that of full weights or more."""
    beta: float = Field(0.1, gt=0)
    """Strength of the regularization toward the reference (β; Rafailov 2023, eq. 7)."""
    disable_dropout: bool = True
    """Set the model's dropout to 0, so that policy and reference are compared without noise."""
