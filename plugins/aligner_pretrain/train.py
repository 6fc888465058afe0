"""The work of the pretrain stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aligner import Artifact, ModelState, Run
from aligner.data.tokenizers import load_tokenizer, save_tokenizer
from aligner.models.clean import whole_model
from aligner.models.fresh import fresh_model
from aligner.models.policy import Prepared, load_policy, prepare_policy
from aligner.models.precision import precision_of
from aligner.models.save import save_model
from aligner.models.tokens import set_token_ids
from aligner.train.language import train_language_model
from aligner.train.packing import labelled, stream
from aligner_pretrain.plan import fresh_tokenizer, prepare
from aligner_pretrain.stage import PretrainOptions


def train(config: PretrainOptions, state: ModelState, run: Run) -> dict[str, Artifact]:
    """Train on plain text; gives the artifacts of the slots the stage provides."""
    if config.fresh is not None:
        tokenizer = fresh_tokenizer(config, run)
    else:
        tokenizer = load_tokenizer(state.get("tokenizer"), run.live)
    data = prepare(config, run, tokenizer)
    prepared = _model(config, state, run, tokenizer)
    figures = train_language_model(
        whole_model(prepared.model),
        tokenizer,
        _rows((row.input_ids for row in data.train), config),
        _rows((row.input_ids for row in data.held_out), config),
        options=config,
        learning_rate=config.learning_rate,
        precision=precision_of(config.precision),
        run=run,
    )
    run.record(**figures)
    policy = save_model(
        prepared.model, run.folder / "policy", live=run.live, base=prepared.base, made_by=run.step
    )
    if config.fresh is None:
        return {"policy": policy}
    words = save_tokenizer(tokenizer, run.folder / "tokenizer")
    run.live.keep(words, tokenizer)
    return {"policy": policy, "tokenizer": words}


def _model(config: PretrainOptions, state: ModelState, run: Run, tokenizer: Any) -> Prepared:
    if config.fresh is None:
        return load_policy(
            state.get("policy"), run.live, config, step="pretrain", seed=run.seed, where=run.where
        )
    model = fresh_model(config.fresh, vocabulary=len(tokenizer), seed=run.seed, where=run.where)
    set_token_ids(model, tokenizer)
    return prepare_policy(
        model, None, options=config, step="pretrain", seed=run.seed, where=run.where
    )


def _rows(documents: Iterable[list[int]], config: PretrainOptions) -> Iterator[dict[str, Any]]:
    if config.stream:
        assert config.max_length is not None, "stream was checked to have a length"
        documents = stream(documents, config.max_length)
    return (labelled(row, [True] * len(row)) for row in documents)
