"""What a pretrain step will do, known before its weights load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aligner import Plan, PlanContext, SlotForecast
from aligner.data.context import DataContext
from aligner.data.encoding.prepare import PreparedData, prepare_texts
from aligner.data.encoding.tokenizers import train_tokenizer
from aligner.data.reading.load import RowStream
from aligner.data.rows import Text
from aligner.errors import ChainError, ErrorCollector
from aligner.models.inspect import fresh_info
from aligner.train.arguments import optimizer_steps
from aligner.train.packing import streamed_rows
from aligner.train.plan import look_at_training, training_plan
from aligner_pretrain.stage import PretrainOptions


def plan(options: PretrainOptions, context: PlanContext) -> Plan:
    if options.fresh is None:
        return _plan(options, context, summary="learn plain text further")
    if "policy" in context.slots:
        raise ChainError(
            f"step {context.step!r} begins with a fresh model, but {context.slots['policy'].made_by!r} "
            "has filled the policy already",
            where=context.at("fresh"),
            hint="leave `model` (or the earlier step) out, or leave `fresh` out to train that one further",
        )
    tokenizer = fresh_tokenizer(options, context)
    facts = fresh_info(options.fresh, vocab_size=len(tokenizer), where=context.at("fresh"))
    slots = dict(context.slots)
    slots["tokenizer"] = SlotForecast(made_by=context.step, facts={"tokenizer": tokenizer})
    slots["policy"] = SlotForecast(made_by=context.step, facts={"model": facts})
    planned = _plan(options, replace(context, slots=slots), summary="learn plain text from nothing")
    return replace(planned, slots=slots | dict(planned.slots))


def prepare(
    step_options: PretrainOptions, context: DataContext, tokenizer: Any
) -> PreparedData[Any]:
    """The documents as tokens; streamed ones whole, as they are cut only once joined."""
    options = (
        step_options.model_copy(update={"max_length": None})
        if step_options.stream
        else step_options
    )
    return prepare_texts(context, options, tokenizer)


def fresh_tokenizer(options: PretrainOptions, context: DataContext) -> Any:
    """The tokenizer trained on the step's documents, made once a process."""
    texts = RowStream(options.data, want="text", context=context, option="data")
    positions = options.fresh.max_position_embeddings if options.fresh else None
    named = texts.known() or [spec.model_dump_json() for spec in options.data]
    key = f"fresh tokenizer {named} {options.vocab_size} {positions}"
    if key not in context.memo:
        errors = ErrorCollector()
        made = train_tokenizer(_said(texts, errors), options.vocab_size, max_length=positions)
        errors.raise_if_any()
        context.memo[key] = made
    return context.memo[key]


def _said(texts: RowStream, errors: ErrorCollector) -> Iterator[str]:
    """The texts one by one; what is wrong with them is kept, as it should not pass through a library."""
    with errors:
        for row in texts.rows():
            assert isinstance(row, Text), "the kind asked for"
            yield row.text


def _plan(options: PretrainOptions, context: PlanContext, *, summary: str) -> Plan:
    looked = look_at_training(
        options, context, lambda tokenizer: prepare(options, context, tokenizer)
    )
    planned = training_plan(
        looked,
        context,
        summary=f"{summary}, learning rate {options.learning_rate:g}",
        metrics=frozenset({"loss"}),
        measured=frozenset({"eval_loss"}),
    )
    if not options.stream:
        return planned
    assert options.max_length is not None, "stream was checked to have a length"
    rows = streamed_rows(looked.data.tokens, options.max_length)
    return replace(planned, rows=rows, optimizer_steps=optimizer_steps(rows, options))
