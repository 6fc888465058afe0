"""What a dpo step will do, known before its weights load."""

from __future__ import annotations

from aligner import Look, Plan
from aligner.data.prepare import prepare_preferences
from aligner.models.reference import reference_text
from aligner.train.plan import look_at_training, training_plan
from aligner_dpo.stage import DPOOptions


def plan(config: DPOOptions, look: Look) -> Plan:
    looked = look_at_training(
        config, look, lambda tokenizer: prepare_preferences(look, config, tokenizer)
    )
    other = look.slots.get("reference")
    return training_plan(
        looked,
        look,
        summary=f"prefer chosen over rejected, {' + '.join(config.loss)}, beta {config.beta:g}, "
        f"learning rate {config.learning_rate:g}",
        figures=frozenset({"loss", "accuracy", "margin"}),
        measured=frozenset({"eval_loss", "eval_accuracy", "eval_margin"}),
        reference=reference_text(
            looked.training.treatment,
            look.slots["policy"].made_by,
            slot_by=other.made_by if other else None,
        ),
    )
