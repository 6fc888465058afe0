"""What an sft step will do, known before its weights load."""

from __future__ import annotations

from aligner import Plan, PlanContext
from aligner.data.encoding.prepare import prepare_conversations
from aligner.errors import ChainError
from aligner.train.plan import look_at_training, training_plan
from aligner_sft.stage import SFTOptions


def plan(options: SFTOptions, context: PlanContext) -> Plan:
    if options.packing and options.max_length is None:
        raise ChainError(
            "packing needs max_length: how many tokens a packed row holds",
            where=context.at("packing"),
        )
    looked = look_at_training(
        options,
        context,
        lambda tokenizer: prepare_conversations(
            context, options, tokenizer, train_on=options.train_on
        ),
        pack_to=options.max_length if options.packing else None,
    )
    learnt = {"weighted": "assistant turns", "assistant": "assistant turns", "last": "last turns"}
    return training_plan(
        looked,
        context,
        summary=f"learn {learnt.get(options.train_on, 'all tokens')}, "
        f"learning rate {options.learning_rate:g}" + (", packed" if options.packing else ""),
        metrics=frozenset({"loss"}),
        measured=frozenset({"eval_loss"}),
    )
