"""Plan of an online step, and all errors that are known before its weights load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aligner.data.encoding.prepare import PreparedData, prepare_prompts
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PromptTokens, SequenceTokens
from aligner.errors import ErrorCollector
from aligner.models.model_info import (
    ModelInfo,
    PlannedTraining,
    plan_training,
    planned_model,
    vocabulary_errors,
)
from aligner.models.reference import describe_reference
from aligner.rl.algorithm import Algorithm, PlanAddition
from aligner.rl.checks import check_stop_token, length_errors, sampler_errors
from aligner.rl.memory import memory_note, separate_reward
from aligner.rl.options import RLOptions
from aligner.rl.pretraining import prepare_mix
from aligner.stage import Plan, PlanContext, SlotForecast
from aligner.train.reward_options import MODEL
from aligner.train.scoring import reward_errors

METRICS = frozenset(
    {
        "reward",
        "reward_first",
        "reward_deviation",
        "kl",
        "entropy",
        "length",
        "ended",
        "sampler_gap",
        "kl_coef",
        "learning_rate",
        "ratio",
        "step_kl",
        "policy_grad_norm",
        "lost_steps",
        "skipped",
        "tokens_per_second",
    }
)
"""Metrics of the last iteration that every online step records."""


@dataclass(frozen=True, kw_only=True)
class CheckedInputs:
    """Inputs of an online step, found to be without errors."""

    training: PlannedTraining
    info: ModelInfo
    data: PreparedData[PromptTokens]
    mix: PreparedData[SequenceTokens] | None
    addition: PlanAddition


def plan_online(algorithm: Algorithm[Any], context: PlanContext) -> Plan:
    """Check models, data and rewards together, and return the plan.

    Raises:
        AlignerError: every error found.
    """
    options: RLOptions = algorithm.options
    inputs = _check(algorithm, context)
    training, data, addition = inputs.training, inputs.data, inputs.addition
    iterations = options.total_iterations(len(data.train))
    reference = context.slots.get("reference")
    policy = SlotForecast(made_by=context.step, facts={"model": training.after})
    return Plan(
        summary=_summary(algorithm, iterations),
        rows=len(data.train),
        tokens=data.tokens,
        optimizer_steps=iterations * options.steps_per_iteration(),
        trained=training.trained,
        parameters=training.parameters,
        incoming=training.incoming,
        reference=describe_reference(
            training.adapter_plan,
            context.slots["policy"].made_by,
            slot_by=None if reference is None else reference.made_by,
        ),
        metrics=_metrics(algorithm, inputs),
        data={"data": data.hash} | ({"pretraining": inputs.mix.hash} if inputs.mix else {}),
        ledgers=data.ledgers_as_dict() | _mix_ledgers(inputs.mix),
        slots={"policy": policy, **addition.slots},
        notes=_notes(options, inputs, context),
    )


def _check(algorithm: Algorithm[Any], context: PlanContext) -> CheckedInputs:
    options: RLOptions = algorithm.options
    errors = ErrorCollector()
    tokenizer = info = training = data = mix = None
    addition = PlanAddition()
    with errors:
        tokenizer = planned_tokenizer(context)
    with errors:
        info = planned_model(context, "policy")
        training = plan_training(info, options, at=context.at)
    errors.found += reward_errors(options.rewards, context, option="rewards")
    if tokenizer is not None:
        with errors:
            data = prepare_prompts(context, options, tokenizer)
        with errors:
            if options.pretraining is not None:
                mix = prepare_mix(options.pretraining, context, tokenizer)
        if info is not None:
            errors.found += vocabulary_errors(info, len(tokenizer))
        with errors:
            check_stop_token(tokenizer, context)
    if info is not None:
        errors.found += sampler_errors(options, info, context)
    if data is not None and info is not None:
        errors.found += length_errors(options, info, data, context)
    if training is not None and info is not None:
        with errors:
            addition = algorithm.plan(training, info, context)
    errors.raise_if_any()
    assert data is not None, "without an error there is data"
    assert info is not None, "without an error there is a model"
    assert training is not None, "without an error it can be trained"
    return CheckedInputs(training=training, info=info, data=data, mix=mix, addition=addition)


def _summary(algorithm: Algorithm[Any], iterations: int) -> str:
    options: RLOptions = algorithm.options
    sources = ", ".join(
        ("the reward model" if reward.name == MODEL else reward.name)
        + (f" × {reward.weight:g}" if reward.weight != 1 else "")
        for reward in options.rewards
    )
    return (
        f"maximize {sources} in {iterations} iterations of {options.prompts} × "
        f"{options.num_generations} responses, {algorithm.describe()}, "
        f"learning rate {options.learning_rate:g}"
    )


def _metrics(algorithm: Algorithm[Any], inputs: CheckedInputs) -> frozenset[str]:
    options: RLOptions = algorithm.options
    metrics = METRICS | inputs.addition.metrics
    metrics |= {*algorithm.advantage_metrics, *algorithm.loss_metrics}
    metrics |= {f"reward_{reward.name}" for reward in options.rewards}
    if options.pretraining is not None:
        metrics |= {"pretraining_loss"}
    return metrics | {"eval_reward", "eval_reward_before"} if inputs.data.held_out else metrics


def _mix_ledgers(mix: PreparedData[SequenceTokens] | None) -> dict[str, dict[str, Any]]:
    return {"pretraining": mix.ledgers_as_dict()["data"]} if mix else {}


def _notes(options: RLOptions, inputs: CheckedInputs, context: PlanContext) -> tuple[str, ...]:
    training, data, addition = inputs.training, inputs.data, inputs.addition
    notes = [
        *addition.notes,
        memory_note(options, training, inputs.info, context, addition.trained),
    ]
    if (separate := separate_reward(options, training, context)) is not None:
        notes.append(
            "reward: "
            + ("a separate model" if separate else "an adapter on the policy's frozen weights")
            + "; it reads text through its own tokenizer and template"
        )
    if options.sampler == "continuous_batching":
        notes.append("responses are generated by transformers' continuous batching")
    if data.held_out:
        notes.append(f"{len(data.held_out)} prompts held out")
    if len(data.train) < options.prompts:
        notes.append(
            f"only {len(data.train)} prompts: each is answered more than once per iteration"
        )
    if options.adapter is not None and options.adapter.lora_dropout:
        notes.append("the adapter's dropout is off: with it ratios would be noise")
    return tuple(notes)
