"""The work of the sft stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aligner import Artifact, ModelState, Run
from aligner.data.chat import Encoded, stop_tokens
from aligner.data.prepare import prepare_conversations
from aligner.data.tokenizers import load_tokenizer
from aligner.models.clean import whole_model
from aligner.models.policy import load_policy
from aligner.models.precision import precision_of
from aligner.models.save import save_model
from aligner.models.tokens import set_token_ids
from aligner.train.language import train_language_model
from aligner.train.packing import labelled
from aligner_sft.stage import SFTOptions


def train(config: SFTOptions, state: ModelState, run: Run) -> Artifact:
    """Fine-tune the incoming policy and save it."""
    tokenizer = load_tokenizer(state.get("tokenizer"), run.live)
    data = prepare_conversations(run, config, tokenizer, train_on=config.train_on)
    prepared = load_policy(
        state.get("policy"), run.live, config, step="sft", seed=run.seed, where=run.where
    )
    if prepared.base is None:
        # New weights are saved: with them, how this tokenizer's answers begin, stop and are padded.
        stops = stop_tokens(tokenizer)
        set_token_ids(whole_model(prepared.model), tokenizer, stop_ids=stops)
    figures = train_language_model(
        whole_model(prepared.model),
        tokenizer,
        _rows(data.train),
        _rows(data.held_out),
        options=config,
        learning_rate=config.learning_rate,
        precision=precision_of(config.precision),
        run=run,
        pack_to=config.max_length if config.packing else None,
        loss=config.loss,
    )
    run.record(**figures)
    return save_model(
        prepared.model, run.folder / "policy", live=run.live, base=prepared.base, made_by=run.step
    )


def _rows(rows: Iterable[Encoded]) -> Iterator[dict[str, Any]]:
    return (labelled(row.input_ids, row.trained) for row in rows)
