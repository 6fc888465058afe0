"""The work of the sft stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aligner import Artifact, ModelState, StepContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import prepare_conversations
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.data.store.token_rows import SequenceTokens
from aligner.models.clean import base_model
from aligner.models.policy import load_policy
from aligner.models.precision import precision_of
from aligner.models.save import save_model
from aligner.models.tokens import set_token_ids
from aligner.train.language import train_language_model
from aligner.train.packing import labelled
from aligner_sft.stage import SFTOptions


def train(options: SFTOptions, state: ModelState, context: StepContext) -> Artifact:
    """Fine-tune the incoming policy and save it."""
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache)
    data = prepare_conversations(context, options, tokenizer, train_on=options.train_on)
    prepared = load_policy(
        state.get("policy"),
        context.model_cache,
        options,
        step="sft",
        seed=context.seed,
        where=context.where,
    )
    if prepared.base is None:
        # New weights are saved: with them, how this tokenizer's answers begin, stop and are padded.
        stops = stop_tokens(tokenizer)
        set_token_ids(base_model(prepared.model), tokenizer, stop_ids=stops)
    metrics = train_language_model(
        base_model(prepared.model),
        tokenizer,
        _rows(data.train),
        _rows(data.held_out),
        options=options,
        learning_rate=options.learning_rate,
        precision=precision_of(options.precision),
        context=context,
        pack_to=options.max_length if options.packing else None,
        loss=options.loss_type,
    )
    context.record(**metrics)
    return save_model(
        prepared.model,
        context.folder / "policy",
        model_cache=context.model_cache,
        base=prepared.base,
        made_by=context.step,
    )


def _rows(rows: Iterable[SequenceTokens]) -> Iterator[dict[str, Any]]:
    return (labelled(row.input_ids, row.trained) for row in rows)
