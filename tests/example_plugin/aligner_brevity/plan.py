"""What an rdpo step will do, known before its weights load."""

from __future__ import annotations

from aligner import Look, Plan
from aligner.data.prepare import prepare_preferences
from aligner.models.reference import reference_text
from aligner.train.plan import look_at_training, training_plan
from aligner_brevity.stage import RDPOOptions


def plan(config: RDPOOptions, look: Look) -> Plan:
    looked = look_at_training(
        config, look, lambda tokenizer: prepare_preferences(look, config, tokenizer)
    )
    return training_plan(
        looked,
        look,
        summary=f"prefer chosen over rejected, beta {config.beta:g}, alpha {config.alpha:g} a token, "
        f"learning rate {config.learning_rate:g}",
        figures=frozenset({"loss"}),
        measured=frozenset({"eval_loss"}),
        reference=reference_text(looked.training.treatment, look.slots["policy"].made_by),
    )
