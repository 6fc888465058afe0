"""Run of a chat step: save the tokenizer, and resize the policy's embeddings."""

from __future__ import annotations

from aligner import Artifact, ModelState, StepContext
from aligner.kit.declare import error_location
from aligner.kit.work import add_token_rows, load_tokenizer, save_tokenizer, stop_tokens
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
        # The token that ended texts so far may still end an answer.
        earlier = [] if before.eos_token_id is None else [before.eos_token_id]
        policy, added = add_token_rows(
            state.get("policy"),
            tokenizer,
            context.folder / "policy",
            stop_ids=[*stop_tokens(tokenizer), *earlier],
            model_cache=context.model_cache,
            made_by=context.step,
        )
    if added:
        context.record(tokens_added=added)
    return {"tokenizer": saved, "policy": policy}
