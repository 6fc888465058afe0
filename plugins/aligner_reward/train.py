"""The work of the reward stage."""

from __future__ import annotations

from transformers import EarlyStoppingCallback
from trl import RewardConfig, RewardTrainer

from aligner import Artifact, ModelState, Run
from aligner.data.prepare import prepare_preferences
from aligner.data.tokenizers import load_tokenizer, save_tokenizer
from aligner.models.clean import whole_model
from aligner.models.precision import device, precision_of
from aligner.models.reward import load_reward_to_train
from aligner.models.save import save_model
from aligner.train.arguments import optimizer_steps, trainer_arguments
from aligner.train.on_disk import on_disk
from aligner.train.trainer import StepTrainer, discard_checkpoints, drive
from aligner_reward.batch import collator, rows
from aligner_reward.plan import base_of
from aligner_reward.stage import RewardOptions


class _RewardTrainer(StepTrainer, RewardTrainer):
    """TRL's, on pairs that are tokens already."""


def train(config: RewardOptions, state: ModelState, run: Run) -> Artifact:
    """Train a head and its model to prefer the chosen answer; save both, with their tokenizer."""
    if config.base:
        base, words = base_of(config, run)
    else:
        base, words = state.get("policy"), state.get("tokenizer")
    tokenizer = load_tokenizer(words, run.live)
    data = prepare_preferences(run, config, tokenizer)
    pairs, held_out = (
        on_disk(rows(side, config), run.folder) for side in (data.train, data.held_out)
    )
    prepared = load_reward_to_train(
        base,
        run.live,
        config,
        step="reward",
        seed=run.seed,
        pad=tokenizer.pad_token_id,
        where=run.where,
    )
    steps = optimizer_steps(len(pairs), config, world=run.world)
    trainer = _RewardTrainer(
        model=whole_model(prepared.model),
        args=RewardConfig(
            **trainer_arguments(
                config,
                run,
                learning_rate=config.learning_rate,
                precision=precision_of(config.precision),
                on_cpu=device().type == "cpu",
                steps=steps,
                measures=bool(held_out),
            ),
            max_length=None,
            center_rewards_coefficient=config.centre,
            disable_dropout=not config.dropout,
        ),
        data_collator=collator(tokenizer),
        train_dataset=pairs,
        eval_dataset=held_out or None,
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(config.early_stopping)] if config.early_stopping else None,
    )
    watch = drive(trainer, run, steps=steps)
    run.record(**{name: watch.last[name] for name in ("loss", "accuracy") if name in watch.last})
    if held_out:
        measured = trainer.evaluate()
        run.record(eval_loss=measured["eval_loss"], eval_accuracy=measured["eval_accuracy"])
    discard_checkpoints(run)
    # A reward model reads text through the tokenizer it was trained with, whatever the policy's is.
    save_tokenizer(tokenizer, run.folder / "reward")
    return save_model(
        prepared.model, run.folder / "reward", live=run.live, base=prepared.base, made_by=run.step
    )
