"""What a reward step will do, known before its weights load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aligner import Artifact, Look, Outlook, Plan
from aligner.data.prepare import Prepared, prepare_preferences
from aligner.errors import Faults
from aligner.models.inspect import Facts, model_facts, pad_faults, planned_model, reward_facts
from aligner.models.resolve import resolve, resolve_tokenizer
from aligner.train.plan import look_at_training, training_plan
from aligner_reward.stage import RewardOptions


def plan(config: RewardOptions, look: Look) -> Plan:
    base = base_of(config, look) if config.base else None
    look = seen_from(config, look)

    def prepare(tokenizer: Any) -> Prepared[Any]:
        Faults.raise_if_any(
            pad_faults(tokenizer.pad_token_id, tokenizer.eos_token_id, where=look.where)
        )
        return prepare_preferences(look, config, tokenizer)

    def model() -> Facts:
        start = planned_model(look, "policy") if base is None else model_facts(base[0])
        return reward_facts(start, where=look.where)

    looked = look_at_training(config, look, prepare, model=model)
    by = config.base or f"{look.slots['policy'].made_by}'s policy"
    return training_plan(
        looked,
        look,
        summary=f"score answers as preferred, from {by}, learning rate {config.learning_rate:g}",
        figures=frozenset({"loss", "accuracy"}),
        measured=frozenset({"eval_loss", "eval_accuracy"}),
        slot="reward",
    )


def seen_from(config: RewardOptions, look: Look) -> Look:
    """`look` with the model and tokenizer that the step begins from in place of the chain's policy."""
    return _instead(look, *base_of(config, look)) if config.base else look


def base_of(config: RewardOptions, look: Any) -> tuple[Artifact, Artifact]:
    """The model and the tokenizer that `base` names."""
    assert config.base is not None
    beside = look.recipe_folder / config.base
    path = str(beside) if beside.is_dir() else config.base
    where = look.at("base")
    return (
        resolve(path, config.revision, where=where),
        resolve_tokenizer(path, config.revision, where=where),
    )


def _instead(look: Look, model: Artifact, tokenizer: Artifact) -> Look:
    slots = dict(look.slots)
    slots["policy"] = Outlook(made_by=model.path, facts={"artifact": model})
    slots["tokenizer"] = Outlook(made_by=tokenizer.path, facts={"artifact": tokenizer})
    return replace(look, slots=slots)
