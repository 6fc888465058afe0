"""What an rdpo step will do, known before its weights load."""

from __future__ import annotations

from aligner import Plan, PlanContext
from aligner.data.encoding.prepare import prepare_preferences
from aligner.models.reference import reference_text
from aligner.train.plan import look_at_training, training_plan
from aligner_brevity.stage import RDPOOptions


def plan(options: RDPOOptions, context: PlanContext) -> Plan:
    looked = look_at_training(
        options, context, lambda tokenizer: prepare_preferences(context, options, tokenizer)
    )
    return training_plan(
        looked,
        context,
        summary=f"prefer chosen over rejected, beta {options.beta:g}, alpha {options.alpha:g} a token, "
        f"learning rate {options.learning_rate:g}",
        metrics=frozenset({"loss"}),
        measured=frozenset({"eval_loss"}),
        reference=reference_text(looked.training.adapter_plan, context.slots["policy"].made_by),
    )
