"""The work of the chat stage."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from aligner import Artifact, ModelState, StepContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.errors import error_location
from aligner.models.inspect import model_info
from aligner.models.load import load_as
from aligner.models.save import save_model
from aligner.models.tokens import resize_embeddings, set_token_ids
from aligner_chat.stage import ChatOptions
from aligner_chat.tokens import with_template


def apply(options: ChatOptions, state: ModelState, context: StepContext) -> dict[str, Artifact]:
    """Save the tokenizer with its template, and the policy with a row for each token.

    A policy that has all the rows already is handed on as it is; whoever trains it next tells it the
    ids of the tokens that answers stop at.
    """
    where = context.at("template")
    before = load_tokenizer(state.get("tokenizer"), context.model_cache, where=where)
    tokenizer = with_template(before, options, folder=context.recipe_folder, where=where)
    saved = save_tokenizer(tokenizer, context.folder / "tokenizer")
    context.model_cache.keep(saved, tokenizer)
    policy = state.get("policy")
    with error_location(where):
        facts = model_info(policy)
    added = len(tokenizer) - facts.vocab_size
    if added <= 0:
        return {"tokenizer": saved, "policy": policy}
    # In the precision it is kept in: rows are added, nothing is trained.
    with error_location(where):
        model = load_as(policy, context.model_cache, dtype=getattr(torch, facts.dtype))
    assert isinstance(model, PreTrainedModel), "the plan refuses adapters"
    resize_embeddings(model, tokenizer)
    # What ended texts before may still end an answer.
    ends = [
        *stop_tokens(tokenizer),
        *([] if before.eos_token_id is None else [before.eos_token_id]),
    ]
    set_token_ids(model, tokenizer, stop_ids=ends)
    context.record(tokens_added=added)
    resized = save_model(
        model, context.folder / "policy", model_cache=context.model_cache, made_by=context.step
    )
    return {"tokenizer": saved, "policy": resized}
