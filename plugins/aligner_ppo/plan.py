"""What a ppo step will do, and every reason why it cannot, known before its weights load."""

from __future__ import annotations

from typing import Any

from aligner import Look, Outlook, Plan
from aligner.data.prepare import Prepared, PromptTokens, prepare_prompts
from aligner.data.tokenizers import planned_tokenizer
from aligner.errors import Collected
from aligner.models.inspect import (
    Facts,
    Training,
    adapter_parameters,
    plan_training,
    planned_model,
    reward_facts,
    vocabulary_faults,
)
from aligner.models.precision import precision_of
from aligner.models.reference import reference_text
from aligner.models.reward_beside import will_lie_beside
from aligner.train.reward_spec import MODEL
from aligner.train.scoring import reward_faults
from aligner_ppo.data import mixed_in
from aligner_ppo.faults import length_faults, needs_an_end, sampler_faults, value_kind
from aligner_ppo.options import PPOConfig
from aligner_ppo.value import Kind

ALWAYS = frozenset(
    {
        "reward",
        "reward_first",
        "reward_deviation",
        "kl",
        "entropy",
        "length",
        "ended",
        "value",
        "sampler_gap",
        "kl_coefficient",
        "learning_rate",
        "explained_variance",
        "policy_loss",
        "value_loss",
        "clip_fraction",
        "value_clip_fraction",
        "ratio",
        "step_kl",
        "policy_grad_norm",
        "value_grad_norm",
        "lost_steps",
        "skipped",
        "tokens_per_second",
    }
)
"""Figures of the last iteration that every ppo step records."""


def plan(config: PPOConfig, look: Look) -> Plan:
    """Look at models, data and rewards together.

    Raises:
        AlignerError: every fault found.
    """
    faults = Collected()
    tokenizer = facts = training = data = mixed = None
    with faults:
        tokenizer = planned_tokenizer(look)
    with faults:
        facts = planned_model(look, "policy")
        training = plan_training(facts, config, at=look.at)
    faults.found += reward_faults(config.rewards, look, option="rewards")
    if tokenizer is not None:
        with faults:
            data = prepare_prompts(look, config, tokenizer)
        with faults:
            if config.pretraining is not None:
                mixed = mixed_in(config.pretraining, look, tokenizer)
        if facts is not None:
            faults.found += vocabulary_faults(facts, len(tokenizer), where=look.where)
        with faults:
            needs_an_end(tokenizer, look)
    if facts is not None:
        faults.found += sampler_faults(config, facts, look)
    if data is not None and facts is not None:
        faults.found += length_faults(config, facts, data, look)
    kind: Kind = "model"
    if training is not None:
        with faults:
            kind = value_kind(config, training, look)
    faults.raise_if_any()
    assert data is not None, "without a fault there is data"
    assert facts is not None, "without a fault there is a model"
    assert training is not None, "without a fault it can be trained"
    rounds = config.rounds(len(data.train))
    return Plan(
        summary=_summary(config, rounds),
        rows=len(data.train),
        tokens=data.tokens,
        optimizer_steps=rounds * config.epochs * config.minibatches,
        trained=training.trained,
        parameters=training.parameters,
        incoming=training.incoming,
        reference=reference_text(
            training.treatment,
            look.slots["policy"].made_by,
            slot_by=look.slots["reference"].made_by if "reference" in look.slots else None,
        ),
        figures=_figures(config, bool(data.held_out)),
        data={"data": data.hash} | ({"pretraining": mixed.hash} if mixed else {}),
        ledgers=data.ledgers_as_dict() | _mixed_ledgers(mixed),
        slots={
            "policy": Outlook(made_by=look.step, facts={"model": training.after}),
            "value": Outlook(made_by=look.step, facts={"value": kind}),
        },
        notes=_notes(config, training, facts, kind, data, look),
    )


def _summary(config: PPOConfig, rounds: int) -> str:
    sources = ", ".join(
        ("the reward model" if one.name == MODEL else one.name)
        + (f" × {one.weight:g}" if one.weight != 1 else "")
        for one in config.rewards
    )
    held = f"KL {config.kl_coefficient:g} ({config.kl_estimator})"
    if config.kl_target is not None:
        held += f" steered to {config.kl_target:g} nats"
    return (
        f"pursue {sources} for {rounds} iterations of {config.prompts} × "
        f"{config.samples_per_prompt} responses, {held}, learning rate {config.learning_rate:g}"
    )


def _figures(config: PPOConfig, measured: bool) -> frozenset[str]:
    figures = ALWAYS | {f"reward_{one.name}" for one in config.rewards}
    if config.pretraining is not None:
        figures |= {"pretraining_loss"}
    return figures | {"eval_reward", "eval_reward_before"} if measured else figures


def _mixed_ledgers(mixed: Prepared[Any] | None) -> dict[str, dict[str, Any]]:
    return {"pretraining": mixed.ledgers_as_dict()["data"]} if mixed else {}


def _notes(
    config: PPOConfig,
    training: Training,
    facts: Facts,
    kind: Kind,
    data: Prepared[PromptTokens],
    look: Look,
) -> tuple[str, ...]:
    described = {
        "head": "a head on the policy's trunk, nothing copied",
        "adapter": "an adapter of its own on the policy's frozen weights, nothing copied",
        "model": "a model of its own",
    }
    notes = [f"value: {described[kind]}", _memory(config, training, facts, kind, look)]
    if (own := _reward_of_its_own(config, training, look)) is not None:
        notes.append(
            f"reward: {described['model' if own else 'adapter']}; it reads text through its own "
            "tokenizer and template"
        )
    if config.sampler == "continuous_batching":
        notes.append("responses are written by transformers' continuous batching")
    if data.held_out:
        notes.append(f"{len(data.held_out)} prompts held out")
    if len(data.train) < config.prompts:
        notes.append(
            f"{len(data.train)} prompts only: each is answered more than once an iteration"
        )
    if config.adapter is not None and config.adapter.dropout:
        notes.append("the adapter's dropout is off: it would make the ratios noise")
    return tuple(notes)


def _reward_of_its_own(config: PPOConfig, training: Training, look: Look) -> bool | None:
    """Whether the reward model has a backbone of its own; None where none is asked."""
    if all(one.name != MODEL for one in config.rewards):
        return None
    reward = planned_model(look, "reward")
    return not will_lie_beside(training, reward, quantize=config.quantize)


def _memory(config: PPOConfig, training: Training, facts: Facts, kind: Kind, look: Look) -> str:
    """Weights, gradients and Adam's means that are held at once, activations aside."""
    half = precision_of(config.precision) == "bf16"
    frozen_bytes = 2 if half else 4
    whole = training.treatment in ("full", "merge")
    held = {
        "policy": training.trained * 16 + (training.parameters - training.trained) * frozen_bytes
    }
    if whole or "reference" in look.slots:
        held["reference"] = facts.parameters * (
            4 if whole and "reference" not in look.slots else frozen_bytes
        )
    if kind == "model":
        started = (
            planned_model(look, "reward") if config.value_from == "reward" else reward_facts(facts)
        )
        held["value"] = started.parameters * 16
    elif kind == "adapter":
        held["value"] = training.trained * 16
    if (own := _reward_of_its_own(config, training, look)) is not None:
        reward = planned_model(look, "reward")
        held["reward"] = adapter_parameters(reward) * 4 + own * reward.parameters * frozen_bytes
    parts = ", ".join(f"{name} {_size(number)}" for name, number in held.items())
    return f"memory: {_size(sum(held.values()))} before activations ({parts})"


def _size(number: int) -> str:
    return f"{number / 2**30:.3g} GiB" if number >= 2**30 else f"{number / 2**20:.2g} MiB"
