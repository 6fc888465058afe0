"""Plan of an evaluate step: its data and metrics, and all errors before weights load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aligner import AlignerError, Plan, PlanContext, Slot
from aligner.kit.declare import (
    ChainError,
    DataError,
    ErrorCollector,
    ModelError,
    did_you_mean,
    error_location,
)
from aligner.kit.rows import Prompt
from aligner.kit.work import (
    PreparedData,
    option_errors,
    planned_model,
    planned_policy,
    planned_tokenizer,
)
from aligner_evaluate.datasets import READS, read_prompts, read_rows, reference_answer
from aligner_evaluate.models import choose_tokenizer
from aligner_evaluate.options import REFERENCE_METRICS, EvaluateOptions, metric_names
from aligner_evaluate.scores import make_judge


def plan(options: EvaluateOptions, context: PlanContext) -> Plan:
    """Plan an evaluate step: read its data, and check models, judge and machine.

    Raises:
        AlignerError: every error found.
    """
    errors = ErrorCollector()
    data: dict[str, PreparedData[Any]] = {}
    tokenizer, model_info = planned_policy(context, errors)
    if tokenizer is not None:
        for option in READS:
            with errors:
                if (rows := read_rows(options, option, context, tokenizer)) is not None:
                    data[option] = rows
        if "prompts" in data:
            prompts = read_prompts(options, context, tokenizer)
            errors.found += _reference_errors(options, prompts, context)
        errors.found += _earlier_errors(options, tokenizer, context)
    if model_info is not None:
        errors.found += _length_errors(options, data, context)
    errors.found += option_errors(options, at=context.at) + _judge_errors(options, context)
    errors.found += _score_errors(options, context)
    errors.raise_if_any()
    reward = options.reward_model and "reward" in context.slots
    return Plan(
        summary=_summary(options, data),
        rows=sum(len(rows.train) for rows in data.values()),
        tokens=sum(rows.tokens for rows in data.values()),
        metrics=frozenset(metric_names(options, reward=reward)),
        data={option: rows.hash for option, rows in data.items()},
        ledgers={option: rows.ledgers["data"].as_dict() for option, rows in data.items()},
    )


def _summary(options: EvaluateOptions, data: dict[str, PreparedData[Any]]) -> str:
    rows = ", ".join(f"{len(prepared.train)} {option}" for option, prepared in data.items())
    measures = [f"judge {options.judge.name}"] if options.judge else []
    measures += [f"against {' and '.join(options.against)}"] if options.against else []
    measures += [f"KL to {' and '.join(options.kl_to)}"] if options.kl_to else []
    return "; ".join([f"measure on {rows}", *measures])


def _reference_errors(
    options: EvaluateOptions, prompts: Sequence[Prompt], context: PlanContext
) -> list[AlignerError]:
    """Find prompts without the reference answer that a metric needs."""
    metrics = [name for name in options.metrics if name in REFERENCE_METRICS]
    lacking = [prompt.origin for prompt in prompts if reference_answer(prompt) is None]
    if not metrics or not lacking:
        return []
    more = ", …" if len(lacking) > 3 else ""
    return [
        DataError(
            f"metrics {', '.join(metrics)} need a reference answer, and {len(lacking)} of "
            f"{len(prompts)} prompts have none: {', '.join(lacking[:3])}{more}",
            where=context.at("metrics"),
            hint="reference answers are in the column `answer`; rename one with `columns: {NAME: answer}`",
        )
    ]


def _length_errors(
    options: EvaluateOptions, data: dict[str, PreparedData[Any]], context: PlanContext
) -> list[AlignerError]:
    """Find data that is longer than the positions of a model that reads it, completions included."""
    readers: list[tuple[Slot, str, tuple[str, ...]]] = [
        ("policy", "the policy", ("prompts", "conversations", "text"))
    ]
    if "reward" in context.slots:
        read = ("prompts", "pairs") if options.reward_model else ("pairs",)
        readers.append(("reward", "the reward model", read))
    errors = ErrorCollector()
    for slot, name, kinds in readers:
        with errors:
            positions = planned_model(context, slot).positions
            for kind in kinds:
                if kind in data and positions is not None:
                    longest = int(data[kind].ledgers["data"].lengths.get("max", 0))
                    errors.found += _length_error(options, kind, longest, positions, name, context)
    return errors.found


def _length_error(
    options: EvaluateOptions,
    kind: str,
    longest: int,
    positions: int,
    reader: str,
    context: PlanContext,
) -> list[AlignerError]:
    new = options.max_new_tokens if kind == "prompts" else 0
    if longest + new <= positions:
        return []
    if kind == "prompts" and longest < positions:
        return [
            ModelError(
                f"the longest prompt has {longest} tokens, and with {new} new tokens it exceeds the "
                f"{positions} positions of {reader}",
                where=context.at("max_new_tokens"),
                hint=f"set max_new_tokens to {positions - longest} or less, "
                f"or max_length to {positions - new}",
            )
        ]
    return [
        ModelError(
            f"the longest row of {kind} has {longest} tokens, but {reader} has {positions} positions",
            where=context.at(kind),
            hint=f"set max_length to {positions - new} or less, to drop longer prompts"
            if kind == "prompts"
            else f"set max_length to {positions} or less",
        )
    ]


def _judge_errors(options: EvaluateOptions, context: PlanContext) -> list[AlignerError]:
    if options.judge is None:
        return []
    offered = context.registry.reward_functions
    if options.judge.name not in offered:
        return [
            ChainError(
                f"no installed plugin offers the reward function {options.judge.name!r} for `judge`",
                where=context.at("judge"),
                hint=did_you_mean(options.judge.name, offered),
            )
        ]
    errors = ErrorCollector()
    with errors:
        make_judge(options.judge, context)
    return errors.found


def _score_errors(options: EvaluateOptions, context: PlanContext) -> list[AlignerError]:
    if not options.against or options.win_rate_scorer == "judge" or "reward" in context.slots:
        return []
    return [
        ChainError(
            "win rates need scores, but there is neither a judge nor a reward model",
            where=context.at("against"),
            hint="name a `judge`, or add a step before this one that fills the reward slot",
        )
    ]


def _earlier_errors(
    options: EvaluateOptions, tokenizer: Any, context: PlanContext
) -> list[AlignerError]:
    """Find earlier models that cannot complete the prompts or score the policy's completions."""
    errors = ErrorCollector()
    steps = [("against", step) for step in options.against]
    steps += [("kl_to", step) for step in options.kl_to]
    for option, step in steps:
        slots = context.past.get(step)
        if slots is None:
            continue  # the chain reports names that are no steps
        with errors, error_location(context.at(option)):
            filled = {"policy", "tokenizer"} <= slots.keys()
            choose_tokenizer(
                planned_tokenizer(replace(context, slots=slots)) if filled else None,
                tokenizer,
                step=step,
                same_tokens=option == "kl_to",
            )
    return errors.found
