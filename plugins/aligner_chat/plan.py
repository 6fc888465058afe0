"""What a chat step will do, known before any weights load."""

from __future__ import annotations

from aligner import Plan, PlanContext, SlotForecast
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.errors import ModelError
from aligner.models.inspect import planned_model, with_vocabulary
from aligner_chat.stage import ChatOptions
from aligner_chat.tokens import with_template


def plan(options: ChatOptions, context: PlanContext) -> Plan:
    """Make the tokenizer that the following steps will have.

    Raises:
        ChainError: there is no such template.
        ModelError: the template fails, or the model cannot be given the tokens it lacks.
    """
    where = context.at("template")
    before = planned_tokenizer(context)
    after = with_template(before, options, folder=context.recipe_folder, where=where)
    facts = planned_model(context, "policy")
    added = max(0, len(after) - facts.vocab_size)
    if added and facts.adapters:
        what = f"the template needs {added} tokens that a model with adapters cannot be given"
        hint = "put this step before the one that trains adapters"
        raise ModelError(what, where=where, hint=hint)
    policy = dict(context.slots["policy"].facts)
    if added:
        policy = {"model": with_vocabulary(facts, len(after))}
    new = len(after) - len(before)
    notes = [f"{new} tokens are new to the tokenizer, {added} to the model"] if new else []
    if before.chat_template and before.chat_template != after.chat_template:
        notes.append("it replaces the tokenizer's earlier template")
    return Plan(
        summary=f"write conversations as {options.template}, ended by {after.eos_token}",
        metrics=frozenset({"tokens_added"} if added else ()),
        slots={
            "tokenizer": SlotForecast(made_by=context.step, facts={"tokenizer": after}),
            "policy": SlotForecast(made_by=context.step, facts=policy),
        },
        notes=tuple(notes),
    )
