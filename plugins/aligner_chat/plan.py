"""Plan of a chat step: the tokenizer of later steps, and the tokens that the model lacks."""

from __future__ import annotations

from aligner import Plan, PlanContext, SlotForecast
from aligner.kit.declare import ModelError, error_location
from aligner.kit.work import planned_model, planned_tokenizer, with_vocabulary
from aligner_chat.options import ChatOptions
from aligner_chat.tokenizer import with_template


def plan(options: ChatOptions, context: PlanContext) -> Plan:
    """Create the tokenizer of later steps.

    Raises:
        ChainError: there is no such template.
        ModelError: the template fails, or tokens cannot be added to a model with adapters.
    """
    before = planned_tokenizer(context)
    model_info = planned_model(context, "policy")
    with error_location(context.at("template")):
        after = with_template(before, options, folder=context.recipe_folder)
        added = max(0, len(after) - model_info.vocab_size)
        if added and model_info.adapters:
            raise ModelError(
                f"the template needs {added} new tokens, which a model with adapters cannot be given",
                hint="put this step before the one that trains adapters",
            )
    policy = dict(context.slots["policy"].facts)
    if added:
        policy = {"model": with_vocabulary(model_info, len(after))}
    new = len(after) - len(before)
    notes = [f"{new} tokens are new to the tokenizer, {added} to the model"] if new else []
    if before.chat_template and before.chat_template != after.chat_template:
        notes.append("it replaces the tokenizer's earlier template")
    return Plan(
        summary=f"format conversations as {options.template}, ended by {after.eos_token}",
        metrics=frozenset({"tokens_added"} if added else ()),
        slots={
            "tokenizer": SlotForecast(made_by=context.step, facts={"tokenizer": after}),
            "policy": SlotForecast(made_by=context.step, facts=policy),
        },
        notes=tuple(notes),
    )
