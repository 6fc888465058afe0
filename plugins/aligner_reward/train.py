"""The work of the reward stage."""

from __future__ import annotations

from transformers import EarlyStoppingCallback
from trl import RewardConfig, RewardTrainer

from aligner import Artifact, ModelState, StepContext
from aligner.data.encoding.prepare import prepare_preferences
from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.models.clean import base_model
from aligner.models.precision import device, precision_of
from aligner.models.reward import load_reward_to_train
from aligner.models.save import save_model
from aligner.train.arguments import optimizer_steps, trainer_arguments
from aligner.train.arrow_dataset import to_arrow_dataset
from aligner.train.trainer import StepTrainer, discard_checkpoints, run_trainer
from aligner_reward.batch import collator, rows
from aligner_reward.plan import base_of
from aligner_reward.stage import RewardOptions


class _RewardTrainer(StepTrainer, RewardTrainer):
    """TRL's, on pairs that are tokens already."""


def train(options: RewardOptions, state: ModelState, context: StepContext) -> Artifact:
    """Train a head and its model to prefer the chosen answer; save both, with their tokenizer."""
    if options.base:
        base, words = base_of(options, context)
    else:
        base, words = state.get("policy"), state.get("tokenizer")
    tokenizer = load_tokenizer(words, context.model_cache)
    data = prepare_preferences(context, options, tokenizer)
    pairs, held_out = (
        to_arrow_dataset(rows(side, options), context.folder)
        for side in (data.train, data.held_out)
    )
    prepared = load_reward_to_train(
        base,
        context.model_cache,
        options,
        step="reward",
        seed=context.seed,
        pad=tokenizer.pad_token_id,
        where=context.where,
    )
    steps = optimizer_steps(len(pairs), options, world=context.world)
    trainer = _RewardTrainer(
        model=base_model(prepared.model),
        args=RewardConfig(
            **trainer_arguments(
                options,
                context,
                learning_rate=options.learning_rate,
                precision=precision_of(options.precision),
                on_cpu=device().type == "cpu",
                steps=steps,
                measures=bool(held_out),
            ),
            max_length=None,
            center_rewards_coefficient=options.center_rewards_coefficient,
            disable_dropout=options.disable_dropout,
        ),
        data_collator=collator(tokenizer),
        train_dataset=pairs,
        eval_dataset=held_out or None,
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(options.early_stopping_patience)]
        if options.early_stopping_patience
        else None,
    )
    watch = run_trainer(trainer, context, steps=steps)
    context.record(
        **{name: watch.last[name] for name in ("loss", "accuracy") if name in watch.last}
    )
    if held_out:
        measured = trainer.evaluate()
        context.record(eval_loss=measured["eval_loss"], eval_accuracy=measured["eval_accuracy"])
    discard_checkpoints(context)
    # A reward model reads text through the tokenizer it was trained with, whatever the policy's is.
    save_tokenizer(tokenizer, context.folder / "reward")
    return save_model(
        prepared.model,
        context.folder / "reward",
        model_cache=context.model_cache,
        base=prepared.base,
        made_by=context.step,
    )
