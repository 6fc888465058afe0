"""What a pretrain step will do, known before its weights load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aligner import Look, Outlook, Plan
from aligner.data.load import load
from aligner.data.place import Place
from aligner.data.prepare import Prepared, prepare_texts
from aligner.data.tokenizers import train_tokenizer
from aligner.errors import ChainError
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
    texts = load(config.data, want="text", place=place, option="data")
    key = f"fresh tokenizer {texts.hash} {config.vocabulary}"
    if key not in place.scratch:
        place.scratch[key] = train_tokenizer(
            (row.text for row in texts.rows),  # type: ignore[attr-defined]  # rows of the kind asked for
            config.vocabulary,
            max_length=config.fresh.positions if config.fresh else None,
        )
    return place.scratch[key]


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
