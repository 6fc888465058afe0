"""What a pretrain step will do, known before its weights load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aligner import Look, Outlook, Plan
from aligner.data.load import Flow
from aligner.data.place import Place
from aligner.data.prepare import Prepared, prepare_texts
from aligner.data.rows import Text
from aligner.data.tokenizers import train_tokenizer
from aligner.errors import ChainError, Collected
from aligner.models.inspect import fresh_facts
from aligner.train.arguments import optimizer_steps
from aligner.train.packing import streamed_rows
from aligner.train.plan import look_at_training, training_plan
from aligner_pretrain.stage import PretrainOptions


def plan(config: PretrainOptions, look: Look) -> Plan:
    if config.fresh is None:
        return _plan(config, look, summary="learn plain text further")
    if "policy" in look.slots:
        raise ChainError(
            f"step {look.step!r} begins with a fresh model, but {look.slots['policy'].made_by!r} "
            "has filled the policy already",
            where=look.at("fresh"),
            hint="leave `model` (or the earlier step) out, or leave `fresh` out to train that one further",
        )
    tokenizer = fresh_tokenizer(config, look)
    facts = fresh_facts(config.fresh, vocabulary=len(tokenizer), where=look.at("fresh"))
    slots = dict(look.slots)
    slots["tokenizer"] = Outlook(made_by=look.step, facts={"tokenizer": tokenizer})
    slots["policy"] = Outlook(made_by=look.step, facts={"model": facts})
    planned = _plan(config, replace(look, slots=slots), summary="learn plain text from nothing")
    return replace(planned, slots=slots | dict(planned.slots))


def prepare(config: PretrainOptions, place: Place, tokenizer: Any) -> Prepared[Any]:
    """The documents as tokens; streamed ones whole, as they are cut only once joined."""
    options = config.model_copy(update={"max_length": None}) if config.stream else config
    return prepare_texts(place, options, tokenizer)


def fresh_tokenizer(config: PretrainOptions, place: Place) -> Any:
    """The tokenizer trained on the step's documents, made once a process."""
    texts = Flow(config.data, want="text", place=place, option="data")
    positions = config.fresh.positions if config.fresh else None
    named = texts.known() or [spec.model_dump_json() for spec in config.data]
    key = f"fresh tokenizer {named} {config.vocabulary} {positions}"
    if key not in place.scratch:
        faults = Collected()
        made = train_tokenizer(_said(texts, faults), config.vocabulary, max_length=positions)
        faults.raise_if_any()
        place.scratch[key] = made
    return place.scratch[key]


def _said(texts: Flow, faults: Collected) -> Iterator[str]:
    """The texts one by one; what is wrong with them is kept, as it should not pass through a library."""
    with faults:
        for row in texts.rows():
            assert isinstance(row, Text), "the kind asked for"
            yield row.text


def _plan(config: PretrainOptions, look: Look, *, summary: str) -> Plan:
    looked = look_at_training(config, look, lambda tokenizer: prepare(config, look, tokenizer))
    planned = training_plan(
        looked,
        look,
        summary=f"{summary}, learning rate {config.learning_rate:g}",
        figures=frozenset({"loss"}),
        measured=frozenset({"eval_loss"}),
    )
    if not config.stream:
        return planned
    assert config.max_length is not None, "stream was checked to have a length"
    rows = streamed_rows(looked.data.tokens, config.max_length)
    return replace(planned, rows=rows, optimizer_steps=optimizer_steps(rows, config))
