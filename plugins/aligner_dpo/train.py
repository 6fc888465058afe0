"""The work of the dpo stage."""

from __future__ import annotations

import math
from typing import Any

from transformers import EarlyStoppingCallback
from trl import DPOConfig
from trl.trainer.utils import add_fused_lm_head

from aligner import Artifact, ModelState, Run, StageError
from aligner.data.prepare import prepare_preferences
from aligner.data.tokenizers import load_tokenizer
from aligner.models.clean import whole_model
from aligner.models.load import load_model
from aligner.models.policy import load_policy
from aligner.models.precision import device, precision_of
from aligner.models.save import save_model
from aligner.train.arguments import optimizer_steps, trainer_arguments
from aligner.train.on_disk import on_disk
from aligner.train.trainer import discard_checkpoints, drive
from aligner_dpo.batch import collator, row
from aligner_dpo.stage import DPOOptions
from aligner_dpo.trainer import ChainedDPOTrainer

_EXACT = {"fp32": 1e-4}
"""How far the first loss may be from ln 2; other precisions round more."""


def train(config: DPOOptions, state: ModelState, run: Run) -> Artifact:
    """Prefer chosen over rejected, held to the policy as it came in; save the result."""
    tokenizer = load_tokenizer(state.get("tokenizer"), run.live)
    data = prepare_preferences(run, config, tokenizer)
    rows, held_out = (on_disk(map(row, side), run.folder) for side in (data.train, data.held_out))
    prepared = load_policy(
        state.get("policy"), run.live, config, step="dpo", seed=run.seed, where=run.where
    )
    steps = optimizer_steps(len(rows), config, world=run.world)
    trainer = ChainedDPOTrainer(
        reference=_other_reference(config, state, run),
        model=whole_model(prepared.model),
        args=_arguments(config, run, steps=steps, measures=bool(held_out)),
        data_collator=collator(tokenizer),
        train_dataset=rows,
        eval_dataset=held_out or None,
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(config.early_stopping)] if config.early_stopping else None,
    )
    watch = drive(trainer, run, steps=steps)
    _refuse_wrong_reference(config, state, watch.first, run)
    names = {"loss": "loss", "accuracy": "rewards/accuracies", "margin": "rewards/margins"}
    run.record(
        **{ours: watch.last[theirs] for ours, theirs in names.items() if theirs in watch.last}
    )
    if held_out:
        measured = trainer.evaluate()
        run.record(
            eval_loss=measured["eval_loss"],
            eval_accuracy=measured["eval_rewards/accuracies"],
            eval_margin=measured["eval_rewards/margins"],
        )
    discard_checkpoints(run)
    return save_model(
        prepared.model, run.folder / "policy", live=run.live, base=prepared.base, made_by=run.step
    )


def _arguments(config: DPOOptions, run: Run, *, steps: int, measures: bool) -> DPOConfig:
    precision = precision_of(config.precision)
    return DPOConfig(
        **trainer_arguments(
            config,
            run,
            learning_rate=config.learning_rate,
            precision=precision,
            on_cpu=device().type == "cpu",
            steps=steps,
            measures=measures,
        ),
        max_length=None,
        precompute_ref_log_probs=True,
        disable_dropout=not config.dropout,
        beta=config.beta,
        loss_type=list(config.loss),
        loss_weights=list(config.loss_weights) if config.loss_weights else None,
        label_smoothing=config.label_smoothing,
        f_divergence_type=config.divergence,
        f_alpha_divergence_coef=config.divergence_alpha,
        ld_alpha=config.length_desensitised,
        use_weighting=config.weighting,
        discopop_tau=config.discopop_tau,
    )


def _other_reference(config: DPOOptions, state: ModelState, run: Run) -> Any | None:
    """The model in the reference slot, able to give log-probabilities; None means the policy itself."""
    if state.reference is None:
        return None
    model = load_model(
        state.reference,
        run.live,
        precision=config.precision,
        attention=config.attention,
        where=run.where,
    )
    add_fused_lm_head(whole_model(model))
    return model


def _refuse_wrong_reference(
    config: DPOOptions, state: ModelState, first: dict[str, float], run: Run
) -> None:
    """The first DPO loss is ln 2 when the reference is the incoming policy: a law of every chain."""
    tolerance = _EXACT.get(precision_of(config.precision), 0.05)
    is_law = config.loss == ("sigmoid",) and not config.weighting and not config.dropout
    if not (is_law and state.reference is None and "loss" in first):
        return
    if not math.isclose(first["loss"], math.log(2), abs_tol=tolerance):
        raise StageError(
            f"the first loss is {first['loss']:.6f}, not ln 2 = {math.log(2):.6f}: "
            "the reference is not the policy that came in",
            where=run.where,
            hint="this is a fault of aligner's, or of a plugin that hands a model on; please report it",
        )
