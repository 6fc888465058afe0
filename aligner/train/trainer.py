"""Run a transformers or TRL trainer in a step: small verified checkpoints, resumption, checks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, ProgressCallback, Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from aligner.errors import StageError
from aligner.stage import StepContext
from aligner.train import checkpoints
from aligner.train.monitor import TrainingMonitor
from aligner.train.weight_check import check_weights_changed, sample_weights

TRAINABLE = "trainable.safetensors"


class StepTrainer(Trainer):
    """Mixin before a transformers or TRL trainer whose rows are tokenized already.

    Checkpoints contain the trained parameters only: no frozen weights, no tokenizer, no pickled arguments
    (which contain the hub token in plain text).
    """

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        # Rows are tokenized, masked and counted already: nothing may be truncated or dropped here.
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # The column of lengths is read without the transform that builds rows.
        grouped = self.args.train_sampling_strategy == "group_by_length"
        rows: Any = self.train_dataset
        if grouped and "length" in rows.column_names:
            group = self.args.train_batch_size * self.args.gradient_accumulation_steps
            return LengthGroupedSampler(group, lengths=rows.with_format(None)["length"][:])
        return super()._get_train_sampler(train_dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            trained = _trained_parameters(self.accelerator.unwrap_model(self.model))
            tensors = {name: p.detach().contiguous() for name, p in trained.items()}
            save_file(tensors, folder / TRAINABLE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        target = self.accelerator.unwrap_model(model if model is not None else self.model)
        _restore(target, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.state.global_step >= self.state.max_steps and not self.args.load_best_model_at_end:
            return  # the step's result is saved next
        Trainer._save_checkpoint(self, model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(str(self.args.output_dir))
            checkpoints.mark_complete(folder / f"checkpoint-{self.state.global_step}")
            best = self.state.best_model_checkpoint
            checkpoints.prune(folder, keep=frozenset({Path(best)} if best else ()))


def run_trainer(trainer: Any, context: StepContext, *, steps: int) -> TrainingMonitor:
    """Train to the end, from the newest complete checkpoint if there is one; return the metrics.

    Raises:
        StageError: no parameter is trainable, none changed, some are not finite, or the disk is full.
    """
    monitor = TrainingMonitor(context)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(monitor)
    model = trainer.accelerator.unwrap_model(trainer.model)
    _check_trainable(model, context)
    _check_disk_space(model, context)
    folder = Path(trainer.args.output_dir)
    newest = checkpoints.newest_complete(folder)
    before = sample_weights(_trained_parameters(model))
    if newest is not None and checkpoints.step_number(newest) >= steps:
        _restore(model, newest)  # trained to the end already
    else:
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    check_weights_changed(before, _trained_parameters(model), context)
    return monitor


def discard_checkpoints(context: StepContext) -> None:
    """Delete the step's checkpoints: its result is about to be saved."""
    if context.writes:
        shutil.rmtree(context.folder / "checkpoints", ignore_errors=True)


def _trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _restore(model: nn.Module, checkpoint: Path) -> None:
    saved, parameters = load_file(checkpoint / TRAINABLE), dict(model.named_parameters())
    wanted = {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert saved.keys() == wanted, "a checkpoint is keyed by what determines its step"
    with torch.no_grad():
        for name, tensor in saved.items():
            parameters[name].copy_(tensor)


def _check_trainable(model: nn.Module, context: StepContext) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise StageError(
            "no parameter of the model is trainable",
            where=context.where,
            hint="give the step an adapter with targets the model has, or train full weights",
        )


def _check_disk_space(model: nn.Module, context: StepContext) -> None:
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    # For each checkpoint, parameters and Adam's two means; then the result.
    needed = trained * 3 * (checkpoints.KEPT + 1) + whole
    stat = os.statvfs(context.folder)
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        raise StageError(
            f"{free / 2**30:.1f} GiB are free, and checkpoints and the result may need "
            f"{needed / 2**30:.1f} GiB",
            where=str(context.folder),
            hint="free some space, or choose another folder with --runs",
        )
