"""The work of the dpo stage."""

from __future__ import annotations

import math
from typing import Any

from transformers import EarlyStoppingCallback
from trl import DPOConfig
from trl.trainer.utils import add_fused_lm_head

from aligner import Artifact, ModelState, StageError, StepContext
from aligner.data.encoding.prepare import prepare_preferences
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.models.clean import base_model
from aligner.models.load import load_model
from aligner.models.policy import load_policy
from aligner.models.precision import device, precision_of
from aligner.models.save import save_model
from aligner.train.arguments import optimizer_steps, trainer_arguments
from aligner.train.arrow_dataset import to_arrow_dataset
from aligner.train.trainer import discard_checkpoints, run_trainer
from aligner_dpo.batch import collator, row
from aligner_dpo.stage import DPOOptions
from aligner_dpo.trainer import ChainedDPOTrainer

_EXACT = {"fp32": 1e-4}
"""How far the first loss may be from ln 2; other precisions round more."""


def train(options: DPOOptions, state: ModelState, context: StepContext) -> Artifact:
    """Prefer chosen over rejected, held to the policy as it came in; save the result."""
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache)
    data = prepare_preferences(context, options, tokenizer)
    rows, held_out = (
        to_arrow_dataset(map(row, side), context.folder) for side in (data.train, data.held_out)
    )
    prepared = load_policy(
        state.get("policy"),
        context.model_cache,
        options,
        step="dpo",
        seed=context.seed,
        where=context.where,
    )
    steps = optimizer_steps(len(rows), options, world=context.world)
    trainer = ChainedDPOTrainer(
        reference=_other_reference(options, state, context),
        model=base_model(prepared.model),
        args=_arguments(options, context, steps=steps, measures=bool(held_out)),
        data_collator=collator(tokenizer),
        train_dataset=rows,
        eval_dataset=held_out or None,
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(options.early_stopping_patience)]
        if options.early_stopping_patience
        else None,
    )
    watch = run_trainer(trainer, context, steps=steps)
    _refuse_wrong_reference(options, state, watch.first, context)
    names = {"loss": "loss", "accuracy": "rewards/accuracies", "margin": "rewards/margins"}
    context.record(
        **{ours: watch.last[theirs] for ours, theirs in names.items() if theirs in watch.last}
    )
    if held_out:
        measured = trainer.evaluate()
        context.record(
            eval_loss=measured["eval_loss"],
            eval_accuracy=measured["eval_rewards/accuracies"],
            eval_margin=measured["eval_rewards/margins"],
        )
    discard_checkpoints(context)
    return save_model(
        prepared.model,
        context.folder / "policy",
        model_cache=context.model_cache,
        base=prepared.base,
        made_by=context.step,
    )


def _arguments(
    options: DPOOptions, context: StepContext, *, steps: int, measures: bool
) -> DPOConfig:
    precision = precision_of(options.precision)
    return DPOConfig(
        **trainer_arguments(
            options,
            context,
            learning_rate=options.learning_rate,
            precision=precision,
            on_cpu=device().type == "cpu",
            steps=steps,
            measures=measures,
        ),
        max_length=None,
        precompute_ref_log_probs=True,
        disable_dropout=options.disable_dropout,
        beta=options.beta,
        loss_type=list(options.loss_type),
        loss_weights=list(options.loss_weights) if options.loss_weights else None,
        label_smoothing=options.label_smoothing,
        f_divergence_type=options.f_divergence_type,
        f_alpha_divergence_coef=options.f_alpha_divergence_coef,
        ld_alpha=options.ld_alpha,
        use_weighting=options.use_weighting,
        discopop_tau=options.discopop_tau,
    )


def _other_reference(options: DPOOptions, state: ModelState, context: StepContext) -> Any | None:
    """The model in the reference slot, able to give log-probabilities; None means the policy itself."""
    if state.reference is None:
        return None
    model = load_model(
        state.reference,
        context.model_cache,
        precision=options.precision,
        attn_implementation=options.attn_implementation,
        where=context.where,
    )
    add_fused_lm_head(base_model(model))
    return model


def _refuse_wrong_reference(
    options: DPOOptions, state: ModelState, first: dict[str, float], context: StepContext
) -> None:
    """The first DPO loss is ln 2 when the reference is the incoming policy: a law of every chain."""
    tolerance = _EXACT.get(precision_of(options.precision), 0.05)
    is_law = (
        options.loss_type == ("sigmoid",) and not options.use_weighting and options.disable_dropout
    )
    if not (is_law and state.reference is None and "loss" in first):
        return
    if not math.isclose(first["loss"], math.log(2), abs_tol=tolerance):
        raise StageError(
            f"the first loss is {first['loss']:.6f}, not ln 2 = {math.log(2):.6f}: "
            "the reference is not the policy that came in",
            where=context.where,
            hint="this is an error of aligner's, or of a plugin that hands a model on; please report it",
        )
