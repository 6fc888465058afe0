"""Plan, preview and run one step of an offline stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from transformers import EarlyStoppingCallback

from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.models.load import load_model
from aligner.models.precision import device, precision_of
from aligner.models.reference import describe_reference
from aligner.models.restore import base_model
from aligner.preview import PreviewRequest, PreviewSection
from aligner.stage import Plan, PlanContext, StepContext
from aligner.state import Artifact, ModelState, Slot
from aligner.train.arguments import optimizer_steps, trainer_arguments
from aligner.train.declaration import Declaration
from aligner.train.method import TrainerInputs, TrainingMethod
from aligner.train.plan import TrainingPlan, check_training, training_plan
from aligner.train.row_dataset import row_dataset
from aligner.train.trainer import discard_checkpoints, run_trainer


def plan_step(
    method: TrainingMethod[Any],
    declaration: Declaration,
    context: PlanContext,
    summary: Callable[[PlanContext], str],
) -> Plan:
    """Check everything the step needs without loading weights, and describe what it will do.

    Raises:
        AlignerError: something is wrong; all errors at once.
    """
    slots = method.incoming_slots(context)
    seen = replace(context, slots=slots)
    planned = check_training(method, declaration, seen)
    plan = training_plan(
        planned,
        declaration,
        context,
        summary=summary(context),
        reference=_reference(planned, seen) if method.has_reference else "",
    )
    new = {s: slots[s] for s in declaration.provides if slots.get(s) is not context.slots.get(s)}
    return replace(plan, slots=new | dict(plan.slots))


def _reference(planned: TrainingPlan, context: PlanContext) -> str:
    other = context.slots.get("reference")
    return describe_reference(
        planned.training.adapter_plan,
        context.slots["policy"].made_by,
        slot_by=other.made_by if other else None,
    )


def preview_step(
    method: TrainingMethod[Any],
    declaration: Declaration,
    context: PlanContext,
    request: PreviewRequest,
) -> tuple[PreviewSection, ...]:
    """Show the requested rows as the collator lays them out in a batch."""
    seen = replace(context, slots=method.incoming_slots(context))
    tokenizer = planned_tokenizer(seen)
    data = method.prepare(declaration.reads, seen, tokenizer)
    split = data.held_out if request.held_out else data.train
    return (method.preview(split, tokenizer, request=request, context=context),)


def train_step(
    method: TrainingMethod[Any], declaration: Declaration, state: ModelState, context: StepContext
) -> dict[Slot, Artifact]:
    """Train, record the final metrics, and save; return the artifacts of the slots it fills.

    Raises:
        StageError: nothing would be trained, the weights did not change or are not finite, or the
            first metrics show an error.
    """
    tokenizer = method.tokenizer(state, context)
    data = method.prepare(declaration.reads, context, tokenizer)
    prepared = method.load(state, context, tokenizer, stage=declaration.stage)
    options = method.options
    rows = method.rows(data.train, held_out=False)
    grouped = method.sampling_strategy == "group_by_length"
    train_rows = row_dataset(rows, with_lengths=grouped)
    held_out = row_dataset(method.rows(data.held_out, held_out=True), with_lengths=False)
    steps = optimizer_steps(len(train_rows), options, world=context.world_size)
    inputs = TrainerInputs(
        arguments=trainer_arguments(
            options,
            context,
            precision=precision_of(options.precision),
            on_cpu=device().type == "cpu",
            steps=steps,
            has_eval_rows=bool(held_out),
            sampling_strategy=method.sampling_strategy,
        ),
        keywords={
            "model": base_model(prepared.model),
            "train_dataset": train_rows,
            "eval_dataset": held_out or None,
            "processing_class": tokenizer,
            "data_collator": method.collator(tokenizer),
            "callbacks": _early_stopping(options.early_stopping_patience),
        },
        reference=_other_reference(method, state, context),
    )
    trainer = method.trainer(inputs, tokenizer)
    monitor = run_trainer(trainer, context, steps=steps)
    method.check(monitor.first, state, context)
    last, names = monitor.last, declaration.metrics
    context.record(**{ours: last[theirs] for ours, theirs in names.items() if theirs in last})
    if held_out:
        measured = trainer.evaluate()
        context.record(**{f"eval_{o}": measured[f"eval_{t}"] for o, t in names.items()})
    discard_checkpoints(context)
    return method.save(prepared, tokenizer, context, slot=declaration.trains)


def _early_stopping(patience: int | None) -> list[EarlyStoppingCallback] | None:
    return [EarlyStoppingCallback(patience)] if patience else None


def _other_reference(
    method: TrainingMethod[Any], state: ModelState, context: StepContext
) -> Any | None:
    """Load the model in the reference slot, if the stage compares to it and it is filled."""
    if not method.has_reference or state.reference is None:
        return None
    return load_model(
        state.reference,
        context.model_cache,
        precision=method.options.precision,
        attn_implementation=method.options.attn_implementation,
    )
