"""Check a training step before weights load, and describe it in a Plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from aligner.data.encoding.prepare import PreparedData
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.errors import (
    AlignerError,
    ChainError,
    ErrorCollector,
    ErrorGroup,
    ModelError,
    error_location,
)
from aligner.models.model_info import (
    ModelInfo,
    PlannedTraining,
    length_errors,
    plan_training,
    vocabulary_errors,
)
from aligner.run.processes import world_size
from aligner.stage import Plan, PlanContext, SlotForecast
from aligner.train.arguments import optimizer_steps
from aligner.train.declaration import Declaration
from aligner.train.method import TrainingMethod
from aligner.train.options import OfflineOptions


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Data, model and optimizer steps of a training step that has no error."""

    data: PreparedData[Any]
    training: PlannedTraining
    rows: int
    steps: int
    notes: tuple[str, ...] = ()


def check_training(
    method: TrainingMethod[Any], declaration: Declaration, context: PlanContext
) -> TrainingPlan:
    """Read tokenizer, model settings and data of the step.

    Args:
        context: With the slots that the step starts from.

    Raises:
        AlignerError: something is wrong; all errors at once.
    """
    options, errors = method.options, ErrorCollector()
    tokenizer = data = info = training = None
    with errors:
        tokenizer = planned_tokenizer(context)
    with errors:
        info = method.model_info(context)
        training = plan_training(info, options, at=context.at)
    if info is not None:
        with errors, error_location(context.at("max_length")):
            ErrorGroup.raise_if_any(length_errors(info, options.max_length))
    if tokenizer is not None and info is not None:
        errors.found += vocabulary_errors(info, len(tokenizer))
    if tokenizer is not None:
        with errors:
            data = method.prepare(declaration.reads, context, tokenizer)
    if data is not None:
        errors.found += _position_errors(options, info, data, context)
        errors.found += _held_out_errors(options, data, context)
    errors.raise_if_any()
    assert data is not None, "without an error there is data"
    assert training is not None, "without an error there is a model"
    return TrainingPlan(
        data=data,
        training=training,
        rows=method.planned_rows(data),
        steps=optimizer_steps(method.batched_rows(data), options, world=world_size()),
        notes=_outlier_notes(options, data),
    )


def training_plan(
    planned: TrainingPlan,
    declaration: Declaration,
    context: PlanContext,
    *,
    summary: str,
    reference: str,
) -> Plan:
    """Return the Plan of a training step."""
    data, training = planned.data, planned.training
    held_out = len(data.held_out)
    metrics = frozenset(declaration.metrics)
    held_out_metrics = frozenset(f"eval_{name}" for name in metrics if held_out)
    after = SlotForecast(made_by=context.step, facts={"model": training.after})
    return Plan(
        summary=summary,
        rows=planned.rows,
        tokens=data.tokens,
        optimizer_steps=planned.steps,
        trained=training.trained,
        parameters=training.parameters,
        incoming=training.incoming,
        reference=reference,
        metrics=metrics | held_out_metrics,
        data=data.hashes,
        ledgers=data.ledgers_as_dict(),
        skipped={name: [asdict(row) for row in rows] for name, rows in data.skipped.items()},
        slots={declaration.trains: after},
        notes=(*((f"{held_out} rows held out",) if held_out else ()), *planned.notes),
    )


def _outlier_notes(options: OfflineOptions, data: PreparedData[Any]) -> tuple[str, ...]:
    """Warn of rows that may not fit in memory although all others do."""
    ledger = data.ledgers["data"]
    found = ledger.found.get("outliers")
    if found is None or options.max_length is not None:
        return ()
    return (
        f"99 of 100 rows have up to {ledger.lengths['p99']:g} tokens, and {found.first[0]} "
        f"(of {found.rows} outliers) far more: {found.detail}; without max_length a batch of such "
        "rows may not fit in memory",
    )


def _position_errors(
    options: OfflineOptions, info: ModelInfo | None, data: PreparedData[Any], context: PlanContext
) -> list[AlignerError]:
    if options.max_length is not None or info is None or info.positions is None:
        return []
    longest = int(data.ledgers["data"].lengths.get("max", 0))
    if longest <= info.positions:
        return []
    return [
        ModelError(
            f"the longest row has {longest} tokens, and the model {info.positions} positions",
            where=context.at("data"),
            hint=f"set max_length to {info.positions} or less; overflow says what becomes of longer rows",
        )
    ]


def _held_out_errors(
    options: OfflineOptions, data: PreparedData[Any], context: PlanContext
) -> list[AlignerError]:
    if data.held_out:
        return []
    return [
        ChainError(
            f"{option} needs rows to measure on, and none are held out",
            where=context.at(option),
            hint="give eval_data, or a share to hold_out",
        )
        for option in ("eval_steps", "early_stopping_patience")
        if getattr(options, option) is not None
    ]
