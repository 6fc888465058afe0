"""Options of a step as keyword arguments of transformers' and TRL's trainers."""

from __future__ import annotations

import math
from typing import Any

from aligner.stage import StepContext
from aligner.train.options import OfflineOptions, TrainOptions

_FEWEST_STEPS_BETWEEN_CHECKPOINTS = 50


def optimizer_steps(rows: int, options: TrainOptions, *, world: int = 1) -> int:
    """Count the optimizer steps that `rows` training rows make, as the trainer will."""
    if options.max_steps is not None:
        return options.max_steps
    batches = math.ceil(math.ceil(rows / world) / options.per_device_train_batch_size)
    return math.ceil(
        options.num_train_epochs * max(math.ceil(batches / options.gradient_accumulation_steps), 1)
    )


def trainer_arguments(
    options: OfflineOptions,
    context: StepContext,
    *,
    precision: str,
    on_cpu: bool,
    steps: int,
    has_eval_rows: bool,
    sampling_strategy: str,
) -> dict[str, Any]:
    """Return keyword arguments for `TrainingArguments` or any TRL config.

    Args:
        precision: `fp32`, `bf16`, `fp16` or `pure_bf16`, resolved for this machine.
        on_cpu: Train on the CPU, even if there is a GPU.
        steps: Optimizer steps in all.
        has_eval_rows: True if there are held-out rows to evaluate on.
        sampling_strategy: Order of rows in training.
    """
    every = options.save_steps or max(_FEWEST_STEPS_BETWEEN_CHECKPOINTS, math.ceil(steps / 10))
    during = has_eval_rows and options.eval_steps is not None
    if during and options.early_stopping_patience is not None:
        # The best weights can only be kept if there is a checkpoint at each evaluation.
        every = options.eval_steps or every
    return {
        "output_dir": str(context.folder / "checkpoints"),
        "learning_rate": options.learning_rate,
        "num_train_epochs": options.num_train_epochs,
        "max_steps": options.max_steps or -1,
        "per_device_train_batch_size": options.per_device_train_batch_size,
        "per_device_eval_batch_size": options.per_device_train_batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation_steps,
        "optim": options.optim,
        "weight_decay": options.weight_decay,
        "adam_beta1": options.adam_beta1,
        "adam_beta2": options.adam_beta2,
        "lr_scheduler_type": options.lr_scheduler_type,
        "warmup_steps": options.warmup_steps
        if options.warmup_steps < 1
        else int(options.warmup_steps),
        "max_grad_norm": options.max_grad_norm,
        "train_sampling_strategy": sampling_strategy,
        "length_column_name": "length",
        "activation_checkpointing": options.activation_checkpointing,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": on_cpu,
        "seed": context.seed,
        "logging_strategy": "steps",
        "logging_steps": options.logging_steps,
        "logging_first_step": True,
        # A NaN must stop the step, not be replaced by the last good loss.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": every,
        "eval_strategy": "steps" if during else "no",
        "eval_steps": options.eval_steps if during else None,
        "load_best_model_at_end": during and options.early_stopping_patience is not None,
        "metric_for_best_model": "eval_loss" if during else None,
        "greater_is_better": False if during else None,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": not on_cpu,
    }
