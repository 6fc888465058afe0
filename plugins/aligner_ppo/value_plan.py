"""Kind of the value function, and the reasons for which a kind is impossible."""

from __future__ import annotations

from aligner import Artifact, PlanContext
from aligner.kit.declare import ChainError
from aligner.kit.work import PlannedTraining
from aligner_ppo.options import PPOOptions
from aligner_ppo.value import ValueKind
from aligner_ppo.value_slot import saved_kind, value_kind

NOTES = {
    "head": "a head on the policy's trunk, nothing copied",
    "adapter": "a separate adapter on the policy's frozen weights, nothing copied",
    "model": "a separate model",
}


def planned_kind(options: PPOOptions, training: PlannedTraining, context: PlanContext) -> ValueKind:
    """Return the kind of value function of a planned step.

    Raises:
        ChainError: the kind does not fit the value slot or the policy.
    """
    lora = training.adapter_plan not in ("full", "merge")
    slot = _forecast(options, context)
    kind = value_kind(options, lora=lora, slot=slot)
    where = context.at("value")
    if slot is not None and kind != slot:
        raise ChainError(
            f"the value slot will contain a value {slot}, and this step asks for a value {kind}",
            where=where,
            hint=f"use `value: {slot}`, or `value_from: policy` to start a new one",
        )
    if kind == "adapter":
        _check_adapter(options, training, lora=lora, where=where)
    return kind


def _forecast(options: PPOOptions, context: PlanContext) -> ValueKind | None:
    """Return the kind in the value slot, where the step continues that."""
    if "value" not in context.slots or options.value_from != "auto":
        return None
    facts = context.slots["value"].facts
    artifact = facts.get("artifact")
    return saved_kind(artifact) if isinstance(artifact, Artifact) else facts.get("value", "model")


def _check_adapter(
    options: PPOOptions, training: PlannedTraining, *, lora: bool, where: str
) -> None:
    if not lora:
        raise ChainError(
            "`value: adapter` needs a policy with frozen weights below an adapter",
            where=where,
            hint="add an `adapter`, or use `value: model` or `value: head`",
        )
    if options.activation_checkpointing:
        raise ChainError(
            "`value: adapter` cannot be combined with activation_checkpointing: "
            "activations would be recomputed with the policy's adapter",
            where=where,
            hint="use `value: head` or `value: model`, or remove activation_checkpointing",
        )
    adapters = training.after.adapters
    if adapters[-1].use_dora and len(adapters) > 1:
        raise ChainError(
            "`value: adapter` cannot be a dora adapter on top of others",
            where=where,
            hint="use `value: head` or `value: model`",
        )
