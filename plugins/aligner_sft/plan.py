"""What an sft step will do, known before its weights load."""

from __future__ import annotations

from aligner import Look, Plan
from aligner.data.prepare import prepare_conversations
from aligner.errors import ChainError
from aligner.train.plan import look_at_training, training_plan
from aligner_sft.stage import SFTOptions


def plan(config: SFTOptions, look: Look) -> Plan:
    if config.packing and config.max_length is None:
        raise ChainError(
            "packing needs max_length: how many tokens a packed row holds",
            where=look.at("packing"),
        )
    looked = look_at_training(
        config,
        look,
        lambda tokenizer: prepare_conversations(look, config, tokenizer, train_on=config.train_on),
        pack_to=config.max_length if config.packing else None,
    )
    learnt = {"weighted": "assistant turns", "assistant": "assistant turns", "last": "last turns"}
    return training_plan(
        looked,
        look,
        summary=f"learn {learnt.get(config.train_on, 'all tokens')}, "
        f"learning rate {config.learning_rate:g}" + (", packed" if config.packing else ""),
        figures=frozenset({"loss"}),
        measured=frozenset({"eval_loss"}),
    )
