"""What a dpo step will do, known before its weights load."""

from __future__ import annotations

from aligner import Plan, PlanContext
from aligner.data.encoding.prepare import prepare_preferences
from aligner.models.reference import reference_text
from aligner.train.plan import look_at_training, training_plan
from aligner_dpo.stage import DPOOptions


def plan(options: DPOOptions, context: PlanContext) -> Plan:
    looked = look_at_training(
        options, context, lambda tokenizer: prepare_preferences(context, options, tokenizer)
    )
    other = context.slots.get("reference")
    return training_plan(
        looked,
        context,
        summary=f"prefer chosen over rejected, {' + '.join(options.loss_type)}, beta {options.beta:g}, "
        f"learning rate {options.learning_rate:g}",
        metrics=frozenset({"loss", "accuracy", "margin"}),
        measured=frozenset({"eval_loss", "eval_accuracy", "eval_margin"}),
        reference=reference_text(
            looked.training.adapter_plan,
            context.slots["policy"].made_by,
            slot_by=other.made_by if other else None,
        ),
    )
