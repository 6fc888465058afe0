"""What a ppo step will do, and every reason why it cannot, known before its weights load."""

from __future__ import annotations

from typing import Any

from aligner import Plan, PlanContext, SlotForecast
from aligner.data.encoding.prepare import PreparedData, prepare_prompts
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PromptTokens
from aligner.errors import ErrorCollector
from aligner.models.inspect import (
    ModelInfo,
    Training,
    adapter_parameters,
    plan_training,
    planned_model,
    reward_info,
    vocabulary_errors,
)
from aligner.models.precision import precision_of
from aligner.models.reference import reference_text
from aligner.models.shared_reward import can_share_backbone
from aligner.train.reward_options import MODEL
from aligner.train.scoring import reward_errors
from aligner_ppo.data import mixed_in
from aligner_ppo.errors import length_errors, needs_an_end, sampler_errors, value_kind
from aligner_ppo.options import PPOOptions
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
"""Metrics of the last iteration that every ppo step records."""


def plan(options: PPOOptions, context: PlanContext) -> Plan:
    """Look at models, data and rewards together.

    Raises:
        AlignerError: every error found.
    """
    errors = ErrorCollector()
    tokenizer = facts = training = data = mixed = None
    with errors:
        tokenizer = planned_tokenizer(context)
    with errors:
        facts = planned_model(context, "policy")
        training = plan_training(facts, options, at=context.at)
    errors.found += reward_errors(options.rewards, context, option="rewards")
    if tokenizer is not None:
        with errors:
            data = prepare_prompts(context, options, tokenizer)
        with errors:
            if options.pretraining is not None:
                mixed = mixed_in(options.pretraining, context, tokenizer)
        if facts is not None:
            errors.found += vocabulary_errors(facts, len(tokenizer), where=context.where)
        with errors:
            needs_an_end(tokenizer, context)
    if facts is not None:
        errors.found += sampler_errors(options, facts, context)
    if data is not None and facts is not None:
        errors.found += length_errors(options, facts, data, context)
    kind: Kind = "model"
    if training is not None:
        with errors:
            kind = value_kind(options, training, context)
    errors.raise_if_any()
    assert data is not None, "without an error there is data"
    assert facts is not None, "without an error there is a model"
    assert training is not None, "without an error it can be trained"
    rounds = options.rounds(len(data.train))
    return Plan(
        summary=_summary(options, rounds),
        rows=len(data.train),
        tokens=data.tokens,
        optimizer_steps=rounds * options.epochs * options.minibatches,
        trained=training.trained,
        parameters=training.parameters,
        incoming=training.incoming,
        reference=reference_text(
            training.adapter_plan,
            context.slots["policy"].made_by,
            slot_by=context.slots["reference"].made_by if "reference" in context.slots else None,
        ),
        metrics=_metrics(options, bool(data.held_out)),
        data={"data": data.hash} | ({"pretraining": mixed.hash} if mixed else {}),
        ledgers=data.ledgers_as_dict() | _mixed_ledgers(mixed),
        slots={
            "policy": SlotForecast(made_by=context.step, facts={"model": training.after}),
            "value": SlotForecast(made_by=context.step, facts={"value": kind}),
        },
        notes=_notes(options, training, facts, kind, data, context),
    )


def _summary(options: PPOOptions, rounds: int) -> str:
    sources = ", ".join(
        ("the reward model" if one.name == MODEL else one.name)
        + (f" × {one.weight:g}" if one.weight != 1 else "")
        for one in options.rewards
    )
    held = f"KL {options.kl_coefficient:g} ({options.kl_estimator})"
    if options.kl_target is not None:
        held += f" steered to {options.kl_target:g} nats"
    return (
        f"pursue {sources} for {rounds} iterations of {options.prompts} × "
        f"{options.samples_per_prompt} responses, {held}, learning rate {options.learning_rate:g}"
    )


def _metrics(options: PPOOptions, measured: bool) -> frozenset[str]:
    metrics = ALWAYS | {f"reward_{one.name}" for one in options.rewards}
    if options.pretraining is not None:
        metrics |= {"pretraining_loss"}
    return metrics | {"eval_reward", "eval_reward_before"} if measured else metrics


def _mixed_ledgers(mixed: PreparedData[Any] | None) -> dict[str, dict[str, Any]]:
    return {"pretraining": mixed.ledgers_as_dict()["data"]} if mixed else {}


def _notes(
    options: PPOOptions,
    training: Training,
    facts: ModelInfo,
    kind: Kind,
    data: PreparedData[PromptTokens],
    context: PlanContext,
) -> tuple[str, ...]:
    described = {
        "head": "a head on the policy's trunk, nothing copied",
        "adapter": "an adapter of its own on the policy's frozen weights, nothing copied",
        "model": "a model of its own",
    }
    notes = [f"value: {described[kind]}", _memory(options, training, facts, kind, context)]
    if (own := _reward_of_its_own(options, training, context)) is not None:
        notes.append(
            f"reward: {described['model' if own else 'adapter']}; it reads text through its own "
            "tokenizer and template"
        )
    if options.sampler == "continuous_batching":
        notes.append("responses are written by transformers' continuous batching")
    if data.held_out:
        notes.append(f"{len(data.held_out)} prompts held out")
    if len(data.train) < options.prompts:
        notes.append(
            f"{len(data.train)} prompts only: each is answered more than once an iteration"
        )
    if options.adapter is not None and options.adapter.lora_dropout:
        notes.append("the adapter's dropout is off: it would make the ratios noise")
    return tuple(notes)


def _reward_of_its_own(
    options: PPOOptions, training: Training, context: PlanContext
) -> bool | None:
    """Whether the reward model has a backbone of its own; None where none is asked."""
    if all(one.name != MODEL for one in options.rewards):
        return None
    reward = planned_model(context, "reward")
    return not can_share_backbone(training, reward, quantize=options.quantize)


def _memory(
    options: PPOOptions, training: Training, facts: ModelInfo, kind: Kind, context: PlanContext
) -> str:
    """Weights, gradients and Adam's means that are held at once, activations aside."""
    half = precision_of(options.precision) == "bf16"
    frozen_bytes = 2 if half else 4
    whole = training.adapter_plan in ("full", "merge")
    held = {
        "policy": training.trained * 16 + (training.parameters - training.trained) * frozen_bytes
    }
    if whole or "reference" in context.slots:
        held["reference"] = facts.parameters * (
            4 if whole and "reference" not in context.slots else frozen_bytes
        )
    if kind == "model":
        started = (
            planned_model(context, "reward")
            if options.value_from == "reward"
            else reward_info(facts)
        )
        held["value"] = started.parameters * 16
    elif kind == "adapter":
        held["value"] = training.trained * 16
    if (own := _reward_of_its_own(options, training, context)) is not None:
        reward = planned_model(context, "reward")
        held["reward"] = adapter_parameters(reward) * 4 + own * reward.parameters * frozen_bytes
    parts = ", ".join(f"{name} {_size(number)}" for name, number in held.items())
    return f"memory: {_size(sum(held.values()))} before activations ({parts})"


def _size(number: int) -> str:
    return f"{number / 2**30:.3g} GiB" if number >= 2**30 else f"{number / 2**20:.2g} MiB"
