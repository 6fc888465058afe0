"""What a chat step will do, known before any weights load."""

from __future__ import annotations

from aligner import Look, Outlook, Plan
from aligner.data.tokenizers import planned_tokenizer
from aligner.errors import ModelError
from aligner.models.inspect import planned_model, with_vocabulary
from aligner_chat.stage import ChatOptions
from aligner_chat.tokens import with_template


def plan(config: ChatOptions, look: Look) -> Plan:
    """Make the tokenizer that the following steps will have.

    Raises:
        ChainError: there is no such template.
        ModelError: the template fails, or the model cannot be given the tokens it lacks.
    """
    where = look.at("template")
    before = planned_tokenizer(look)
    after = with_template(before, config, folder=look.recipe_folder, where=where)
    facts = planned_model(look, "policy")
    added = max(0, len(after) - facts.vocabulary)
    if added and facts.adapters:
        what = f"the template needs {added} tokens that a model with adapters cannot be given"
        hint = "put this step before the one that trains adapters"
        raise ModelError(what, where=where, hint=hint)
    policy = dict(look.slots["policy"].facts)
    if added:
        policy = {"model": with_vocabulary(facts, len(after))}
    new = len(after) - len(before)
    notes = [f"{new} tokens are new to the tokenizer, {added} to the model"] if new else []
    if before.chat_template and before.chat_template != after.chat_template:
        notes.append("it replaces the tokenizer's earlier template")
    return Plan(
        summary=f"write conversations as {config.template}, ended by {after.eos_token}",
        figures=frozenset({"tokens_added"} if added else ()),
        slots={
            "tokenizer": Outlook(made_by=look.step, facts={"tokenizer": after}),
            "policy": Outlook(made_by=look.step, facts=policy),
        },
        notes=tuple(notes),
    )
