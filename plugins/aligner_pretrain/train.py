"""The work of the pretrain stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aligner import Artifact, ModelState, StepContext
from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.models.clean import base_model
from aligner.models.fresh import fresh_model
from aligner.models.policy import Prepared, load_policy, prepare_policy
from aligner.models.precision import precision_of
from aligner.models.save import save_model
from aligner.models.tokens import set_token_ids
from aligner.train.language import train_language_model
from aligner.train.packing import labelled, stream
from aligner_pretrain.plan import fresh_tokenizer, prepare
from aligner_pretrain.stage import PretrainOptions


def train(options: PretrainOptions, state: ModelState, context: StepContext) -> dict[str, Artifact]:
    """Train on plain text; gives the artifacts of the slots the stage provides."""
    if options.fresh is not None:
        tokenizer = fresh_tokenizer(options, context)
    else:
        tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache)
    data = prepare(options, context, tokenizer)
    prepared = _model(options, state, context, tokenizer)
    metrics = train_language_model(
        base_model(prepared.model),
        tokenizer,
        _rows((row.input_ids for row in data.train), options),
        _rows((row.input_ids for row in data.held_out), options),
        options=options,
        learning_rate=options.learning_rate,
        precision=precision_of(options.precision),
        context=context,
    )
    context.record(**metrics)
    policy = save_model(
        prepared.model,
        context.folder / "policy",
        model_cache=context.model_cache,
        base=prepared.base,
        made_by=context.step,
    )
    if options.fresh is None:
        return {"policy": policy}
    words = save_tokenizer(tokenizer, context.folder / "tokenizer")
    context.model_cache.keep(words, tokenizer)
    return {"policy": policy, "tokenizer": words}


def _model(
    options: PretrainOptions, state: ModelState, context: StepContext, tokenizer: Any
) -> Prepared:
    if options.fresh is None:
        return load_policy(
            state.get("policy"),
            context.model_cache,
            options,
            step="pretrain",
            seed=context.seed,
            where=context.where,
        )
    model = fresh_model(
        options.fresh, vocab_size=len(tokenizer), seed=context.seed, where=context.where
    )
    set_token_ids(model, tokenizer)
    return prepare_policy(
        model, None, options=options, step="pretrain", seed=context.seed, where=context.where
    )


def _rows(documents: Iterable[list[int]], options: PretrainOptions) -> Iterator[dict[str, Any]]:
    if options.stream:
        assert options.max_length is not None, "stream was checked to have a length"
        documents = stream(documents, options.max_length)
    return (labelled(row, [True] * len(row)) for row in documents)
