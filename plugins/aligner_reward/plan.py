"""What a reward step will do, known before its weights load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aligner import Artifact, Plan, PlanContext, SlotForecast
from aligner.data.encoding.prepare import PreparedData, prepare_preferences
from aligner.errors import ErrorGroup
from aligner.models.inspect import ModelInfo, model_info, pad_errors, planned_model, reward_info
from aligner.models.resolve import resolve, resolve_tokenizer
from aligner.train.plan import look_at_training, training_plan
from aligner_reward.stage import RewardOptions


def plan(options: RewardOptions, context: PlanContext) -> Plan:
    base = base_of(options, context) if options.base else None
    context = seen_from(options, context)

    def prepare(tokenizer: Any) -> PreparedData[Any]:
        ErrorGroup.raise_if_any(
            pad_errors(tokenizer.pad_token_id, tokenizer.eos_token_id, where=context.where)
        )
        return prepare_preferences(context, options, tokenizer)

    def model() -> ModelInfo:
        start = planned_model(context, "policy") if base is None else model_info(base[0])
        return reward_info(start, where=context.where)

    looked = look_at_training(options, context, prepare, model=model)
    by = options.base or f"{context.slots['policy'].made_by}'s policy"
    return training_plan(
        looked,
        context,
        summary=f"score answers as preferred, from {by}, learning rate {options.learning_rate:g}",
        metrics=frozenset({"loss", "accuracy"}),
        measured=frozenset({"eval_loss", "eval_accuracy"}),
        slot="reward",
    )


def seen_from(options: RewardOptions, context: PlanContext) -> PlanContext:
    """`context` with the model and tokenizer that the step begins from in place of the chain's policy."""
    return _instead(context, *base_of(options, context)) if options.base else context


def base_of(options: RewardOptions, look: Any) -> tuple[Artifact, Artifact]:
    """The model and the tokenizer that `base` names."""
    assert options.base is not None
    beside = look.recipe_folder / options.base
    path = str(beside) if beside.is_dir() else options.base
    where = look.at("base")
    return (
        resolve(path, options.revision, where=where),
        resolve_tokenizer(path, options.revision, where=where),
    )


def _instead(context: PlanContext, model: Artifact, tokenizer: Artifact) -> PlanContext:
    slots = dict(context.slots)
    slots["policy"] = SlotForecast(made_by=model.path, facts={"artifact": model})
    slots["tokenizer"] = SlotForecast(made_by=tokenizer.path, facts={"artifact": tokenizer})
    return replace(context, slots=slots)
