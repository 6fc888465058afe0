"""Train a causal language model on rows of tokens: what pretraining and instruction tuning share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import EarlyStoppingCallback
from trl import SFTConfig, SFTTrainer

from aligner.models.precision import device
from aligner.stage import StepContext
from aligner.train.arguments import optimizer_steps, trainer_arguments
from aligner.train.arrow_dataset import to_arrow_dataset
from aligner.train.collating import language_collator
from aligner.train.options import TrainOptions
from aligner.train.packing import packed
from aligner.train.trainer import StepTrainer, discard_checkpoints, run_trainer


class _LanguageTrainer(StepTrainer, SFTTrainer):
    """TRL's, on rows that are tokens already."""


def train_language_model(
    model: Any,
    tokenizer: Any,
    rows: Iterable[Mapping[str, Any]],
    held_out: Iterable[Mapping[str, Any]],
    *,
    options: TrainOptions,
    learning_rate: float,
    precision: str,
    context: StepContext,
    pack_to: int | None = None,
    loss: str = "nll",
) -> dict[str, float]:
    """Train `model` in place on `rows` of `input_ids`, `labels` and `length`; return final metrics.

    Args:
        model: A transformers causal model; only parameters that require a gradient move.
        pack_to: Lay whole rows end to end in bins of this many tokens.
        loss: `nll`, or `dft` (dynamic fine-tuning, Wu 2025).
    """
    data = to_arrow_dataset(packed(map(dict, rows), pack_to) if pack_to else rows, context.folder)
    measured = to_arrow_dataset(held_out, context.folder)
    steps = optimizer_steps(len(data), options, world=context.world)
    arguments = trainer_arguments(
        options,
        context,
        learning_rate=learning_rate,
        precision=precision,
        on_cpu=device().type == "cpu",
        steps=steps,
        measures=bool(measured),
    )
    if pack_to:
        # Bins are of one length already, and the trainer looks the length up in a column they lack.
        arguments["train_sampling_strategy"] = "random"
    trainer = _LanguageTrainer(
        model=model,
        args=SFTConfig(
            **arguments,
            max_length=None,
            padding_free=pack_to is not None,
            loss_type=loss,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=data,
        eval_dataset=measured or None,
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(options.early_stopping_patience)]
        if options.early_stopping_patience
        else None,
    )
    # Only now: where rows are packed, TRL takes no collator that it has not made itself.
    trainer.data_collator = language_collator(tokenizer, packed=pack_to is not None)
    watch = run_trainer(trainer, context, steps=steps)
    metrics = {"loss": watch.last["loss"]} if "loss" in watch.last else {}
    if measured:
        metrics["eval_loss"] = float(trainer.evaluate()["eval_loss"])
    discard_checkpoints(context)
    return metrics
