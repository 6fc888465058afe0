"""Run of a chat step: save the tokenizer, and resize the policy's embeddings."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from aligner import Artifact, ModelState, StepContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.errors import error_location
from aligner.models.load import load_as
from aligner.models.model_info import model_info
from aligner.models.save import save_model
from aligner.models.tokens import resize_embeddings, set_token_ids
from aligner_chat.options import ChatOptions
from aligner_chat.tokenizer import with_template


def run(options: ChatOptions, state: ModelState, context: StepContext) -> dict[str, Artifact]:
    """Save the tokenizer with its template, and the policy if it lacks rows for new tokens.

    A policy that has all rows is passed on unchanged; the next step that trains it sets the ids of its
    stop tokens.
    """
    with error_location(context.at("template")):
        before = load_tokenizer(state.get("tokenizer"), context.model_cache)
        tokenizer = with_template(before, options, folder=context.recipe_folder)
        saved = save_tokenizer(tokenizer, context.folder / "tokenizer")
        context.model_cache.keep(saved, tokenizer)
        policy = state.get("policy")
        info = model_info(policy)
        added = len(tokenizer) - info.vocab_size
        if added <= 0:
            return {"tokenizer": saved, "policy": policy}
        # In the precision of the files: rows are added, nothing is trained.
        model = load_as(policy, context.model_cache, dtype=getattr(torch, info.dtype))
    assert isinstance(model, PreTrainedModel), "the plan refuses adapters"
    resize_embeddings(model, tokenizer)
    # The token that ended texts so far may still end an answer.
    stops = [
        *stop_tokens(tokenizer),
        *([] if before.eos_token_id is None else [before.eos_token_id]),
    ]
    set_token_ids(model, tokenizer, stop_ids=stops)
    context.record(tokens_added=added)
    resized = save_model(
        model, context.folder / "policy", model_cache=context.model_cache, made_by=context.step
    )
    return {"tokenizer": saved, "policy": resized}
