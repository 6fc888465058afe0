"""Say what a training step will do, and find every reason why it cannot, before weights load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from aligner.data.encoding.prepare import PreparedData
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.errors import AlignerError, ChainError, ErrorCollector, ModelError
from aligner.models.inspect import (
    ModelInfo,
    Training,
    length_errors,
    plan_training,
    planned_model,
    vocabulary_errors,
)
from aligner.run.ranks import world
from aligner.stage import Plan, PlanContext, SlotForecast
from aligner.state import Slot
from aligner.train.arguments import optimizer_steps
from aligner.train.packing import labelled, packed


@dataclass(frozen=True)
class Looked:
    """All that planning a training step found out."""

    tokenizer: Any
    data: PreparedData[Any]
    training: Training
    steps: int
    notes: tuple[str, ...] = ()


def look_at_training(
    config: Any,
    context: PlanContext,
    prepare: Callable[[Any], PreparedData[Any]],
    *,
    model: Callable[[], ModelInfo] | None = None,
    pack_to: int | None = None,
) -> Looked:
    """Tokenizer, data, model and optimizer steps of a training step, or every error at once.

    Args:
        config: Options of data, model and training.
        prepare: Reads and encodes the rows with the tokenizer it is given.
        model: The model to be trained, where it is not the policy that comes in.
        pack_to: Length of the bins, where rows are packed.
    """
    errors = ErrorCollector()
    tokenizer = data = facts = training = None
    with errors:
        tokenizer = planned_tokenizer(context)
    with errors:
        facts = model() if model is not None else planned_model(context, "policy")
        training = plan_training(facts, config, at=context.at)
    if facts is not None:
        errors.found += length_errors(facts, config.max_length, where=context.at("max_length"))
    if tokenizer is not None and facts is not None:
        errors.found += vocabulary_errors(facts, len(tokenizer), where=context.where)
    if tokenizer is not None:
        with errors:
            data = prepare(tokenizer)
    if data is not None:
        errors.found += _longest_fits(config, facts, data, context)
        errors.found += _measurable(config, data, context)
    errors.raise_if_any()
    assert data is not None, "without an error there is data"
    assert training is not None, "without an error there is a model"
    rows = len(data.train)
    if pack_to:
        labels = (labelled(row.input_ids, row.trained) for row in data.train)
        rows = sum(1 for _ in packed(labels, pack_to))
    steps = optimizer_steps(rows, config, world=world())
    return Looked(tokenizer, data, training, steps, _of_outliers(config, data))


def training_plan(
    looked: Looked,
    context: PlanContext,
    *,
    summary: str,
    metrics: frozenset[str],
    measured: frozenset[str],
    reference: str = "",
    slot: Slot = "policy",
) -> Plan:
    """The Plan of a training step.

    Args:
        metrics: What the step always records.
        measured: What it records besides where there are held-out rows.
        slot: What it fills with the model it trains.
    """
    data, training = looked.data, looked.training
    held_out = len(data.held_out)
    return Plan(
        summary=summary,
        rows=len(data.train),
        tokens=data.tokens,
        optimizer_steps=looked.steps,
        trained=training.trained,
        parameters=training.parameters,
        incoming=training.incoming,
        reference=reference,
        metrics=metrics | (measured if held_out else frozenset()),
        data=data.hashes,
        ledgers=data.ledgers_as_dict(),
        skipped={name: [asdict(one) for one in rows] for name, rows in data.skipped.items()},
        slots={slot: SlotForecast(made_by=context.step, facts={"model": training.after})},
        notes=(*((f"{held_out} rows held out",) if held_out else ()), *looked.notes),
    )


def _of_outliers(config: Any, data: PreparedData[Any]) -> tuple[str, ...]:
    """What is to be said of rows that may not fit in memory though all others do."""
    ledger = data.ledgers["data"]
    found = ledger.found.get("outliers")
    if found is None or config.max_length is not None:
        return ()
    return (
        f"99 of 100 rows have up to {ledger.lengths['p99']:g} tokens, and {found.first[0]} "
        f"(of {found.rows} outliers) far more: {found.detail}; without max_length a batch of such "
        "rows may not fit in memory",
    )


def _longest_fits(
    config: Any, facts: ModelInfo | None, data: PreparedData[Any], context: PlanContext
) -> list[AlignerError]:
    if config.max_length is not None or facts is None or facts.positions is None:
        return []
    longest = int(data.ledgers["data"].lengths.get("max", 0))
    if longest <= facts.positions:
        return []
    return [
        ModelError(
            f"the longest row has {longest} tokens, and the model {facts.positions} positions",
            where=context.at("data"),
            hint=f"set max_length to {facts.positions} or less; overflow says what becomes of longer rows",
        )
    ]


def _measurable(config: Any, data: PreparedData[Any], context: PlanContext) -> list[AlignerError]:
    if data.held_out:
        return []
    return [
        ChainError(
            f"{option} needs rows to measure on, and none are held out",
            where=context.at(option),
            hint="give eval_data, or a share to hold_out",
        )
        for option in ("eval_steps", "early_stopping_patience")
        if getattr(config, option) is not None
    ]
