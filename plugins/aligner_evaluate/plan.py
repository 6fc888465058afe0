"""Say what an evaluate step will measure, and find every reason why it cannot, before weights load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aligner.data.encoding.planned_policy import planned_policy
from aligner.data.encoding.prepare import PreparedData
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.errors import (
    AlignerError,
    ChainError,
    DataError,
    ErrorCollector,
    ModelError,
    did_you_mean,
)
from aligner.models.inspect import planned_model
from aligner.models.precision import option_errors
from aligner.stage import Plan, PlanContext
from aligner.state import Slot
from aligner_evaluate.material import KINDS, prepared, prompts, reference_answer
from aligner_evaluate.scores import judge_of
from aligner_evaluate.stage import COMPARING, EvaluateOptions, metrics_of
from aligner_evaluate.voices import spoken_through


def plan(options: EvaluateOptions, context: PlanContext) -> Plan:
    errors = ErrorCollector()
    data: dict[str, PreparedData[Any]] = {}
    tokenizer, facts = planned_policy(context, errors)
    if tokenizer is not None:
        for kind in KINDS:
            with errors:
                if (rows := prepared(options, kind, context, tokenizer)) is not None:
                    data[kind] = rows
        with errors:
            if (asked := prompts(options, context, tokenizer)) is not None:
                data["prompts"] = asked[0]
                errors.found += _without_reference(options, asked[1], context)
        errors.found += _past_errors(options, tokenizer, context)
    if facts is not None:
        errors.found += _too_long(options, data, context)
    errors.found += option_errors(options, at=context.at) + _judge_errors(options, context)
    errors.found += _score_errors(options, context)
    errors.raise_if_any()
    reward = options.reward_model and "reward" in context.slots
    return Plan(
        summary=_summary(options, data),
        rows=sum(len(rows.train) for rows in data.values()),
        tokens=sum(rows.tokens for rows in data.values()),
        metrics=frozenset(metrics_of(options, reward=reward)),
        data={kind: rows.hash for kind, rows in data.items()},
        ledgers={kind: rows.ledgers["data"].as_dict() for kind, rows in data.items()},
    )


def _summary(options: EvaluateOptions, data: dict[str, PreparedData[Any]]) -> str:
    rows = ", ".join(f"{len(one.train)} {kind}" for kind, one in data.items())
    by = [f"judge {options.judge.name}"] if options.judge else []
    by += [f"against {' and '.join(options.against)}"] if options.against else []
    by += [f"KL to {' and '.join(options.kl_to)}"] if options.kl_to else []
    return "; ".join([f"measure on {rows}", *by])


def _without_reference(
    options: EvaluateOptions, rows: Any, context: PlanContext
) -> list[AlignerError]:
    comparing = [name for name in options.metrics if name in COMPARING]
    bare = [row.origin for row in rows if reference_answer(row) is None]
    if not comparing or not bare:
        return []
    more = ", …" if len(bare) > 3 else ""
    return [
        DataError(
            f"metrics {', '.join(comparing)} need a reference answer, and {len(bare)} of "
            f"{len(rows)} prompts have none: {', '.join(bare[:3])}{more}",
            where=context.at("metrics"),
            hint="reference answers stand in a column `answer`; rename one with `columns: {NAME: answer}`",
        )
    ]


def _too_long(
    options: EvaluateOptions, data: dict[str, PreparedData[Any]], context: PlanContext
) -> list[AlignerError]:
    """Rows, or prompts with their longest answers, that go beyond the positions of who reads them."""
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
                    errors.found += _beyond(options, kind, longest, positions, name, context)
    return errors.found


def _beyond(
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
                f"the longest prompt has {longest} tokens, and with {new} new ones it is longer than "
                f"the {positions} positions of {reader}",
                where=context.at("max_new_tokens"),
                hint=f"set max_new_tokens to {positions - longest} or less, "
                f"or max_length to {positions - new}",
            )
        ]
    return [
        ModelError(
            f"the longest row of {kind} has {longest} tokens, and {reader} {positions} positions",
            where=context.at(kind),
            hint=f"set max_length to {positions - new} or less, to leave longer prompts out"
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
                f"no plugin offers a reward function {options.judge.name!r} to judge by",
                where=context.at("judge"),
                hint=did_you_mean(options.judge.name, offered),
            )
        ]
    errors = ErrorCollector()
    with errors:
        judge_of(options.judge, context)
    return errors.found


def _score_errors(options: EvaluateOptions, context: PlanContext) -> list[AlignerError]:
    if not options.against or options.decides == "judge" or "reward" in context.slots:
        return []
    return [
        ChainError(
            "win rates need scores, and there is neither a judge nor a reward model",
            where=context.at("against"),
            hint="name a `judge`, or put a step before this one that fills 'reward'",
        )
    ]


def _past_errors(
    options: EvaluateOptions, tokenizer: Any, context: PlanContext
) -> list[AlignerError]:
    """Earlier models that cannot be asked, or not be weighed against the policy."""
    errors = ErrorCollector()
    looked_at = [("against", step) for step in options.against]
    looked_at += [("kl_to", step) for step in options.kl_to]
    for option, step in looked_at:
        there = context.past.get(step)
        if there is None:
            continue  # the chain complains about names of no step
        with errors:
            filled = {"policy", "tokenizer"} <= there.keys()
            spoken_through(
                planned_tokenizer(replace(context, slots=there)) if filled else None,
                tokenizer,
                step=step,
                same_tokens=option == "kl_to",
                where=context.at(option),
            )
    return errors.found
