"""Make the model that comes in ready to be trained as a step's options say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from aligner.errors import ErrorGroup, ModelError, StageError
from aligner.models.adapters import activate, attach_fresh, merge_stack, stack_of
from aligner.models.clean import clean, settings_of, snapshot_settings
from aligner.models.load import cast, load_as
from aligner.models.options import AdapterPlan, ModelOptions, adapter_plan
from aligner.models.precision import option_errors, precision_of, weights_dtype
from aligner.models.saved_adapters import read_adapter
from aligner.state import Artifact, ModelCache


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model that a step can train, and what must be known to save it and to find its reference."""

    model: PreTrainedModel | PeftModel
    adapter_plan: AdapterPlan
    base: Artifact | None
    """What the trained adapter belongs on; None where the weights below are themselves new."""
    incoming: str
    """How the adapters that came in are treated, for the table."""
    trained: int
    """Parameters that require a gradient."""
    parameters: int
    """All parameters, adapters among them."""


def load_policy(
    artifact: Artifact,
    model_cache: ModelCache,
    options: ModelOptions,
    *,
    step: str,
    seed: int,
    reward: bool = False,
    on: torch.device | None = None,
) -> Prepared:
    """Load `artifact` in the precision it is to be trained in, and prepare it.

    Args:
        artifact: The policy (or reward model) that comes in.
        live: Where the step before may have left it.
        options: Adapter, adapter_plan of incoming ones, precision, quantisation, attention.
        step: Name of the step; with `seed` it decides a new adapter's weights.
        seed: The run's.
        reward: A model with a head that scores.
        on: Where to put it; None takes `device()`.

    Raises:
        ModelError: it cannot be loaded, or not treated so.
        StageError: nothing of it would be trained.
    """
    ErrorGroup.raise_if_any(option_errors(options))
    how = adapter_plan(artifact.adapters, options)
    if options.quantize is not None and how == "full":
        raise ModelError(
            f"`quantize: {options.quantize}` holds weights that cannot be trained",
            hint="add an `adapter`, or leave `quantize` out",
        )
    exact = how.startswith("merge")  # sums are taken in 32 bits, whatever follows
    dtype = weights_dtype(precision_of(options.precision), trainable=how == "full")
    model = load_as(
        artifact,
        model_cache,
        dtype=torch.float32 if exact else dtype,
        quantize=options.quantize,
        attn_implementation=options.attn_implementation,
        reward=reward,
        on=on,
    )
    return prepare_policy(model, artifact, options=options, step=step, seed=seed)


def prepare_policy(
    model: PreTrainedModel | PeftModel,
    artifact: Artifact | None,
    *,
    options: ModelOptions,
    step: str,
    seed: int,
) -> Prepared:
    """Merge, freeze and attach as `options` say; the model computes the same before and after.

    Args:
        model: Clean, and the caller's own; it is changed in place.
        artifact: What `model` is; None if it was just made and is saved nowhere.
        options: As for `load_policy`.
        step: Name of the step.
        seed: The run's.
    """
    came = stack_of(model)
    how = adapter_plan(came, options)
    precision = precision_of(options.precision)
    quantize = settings.quantize if (settings := settings_of(model)) else None
    if how == "stack":
        assert artifact is not None
        check_stack(artifact.adapters, options)
    if how.startswith("merge"):
        assert isinstance(model, PeftModel)
        model = merge_stack(model)
        cast(model, weights_dtype(precision, trainable=how == "merge"))
        artifact = None
    if how in ("fresh", "merge and fresh", "stack"):
        assert options.adapter is not None
        model = attach_fresh(model, options.adapter, seed=seed, step=step)
    elif how == "continue":
        assert isinstance(model, PeftModel)
        activate(model, stack_of(model), train=True)
    else:
        model.requires_grad_(True)
    snapshot_settings(model, quantize=quantize)
    clean(model)
    base = artifact
    if artifact is not None and how == "continue":
        base = replace(artifact, adapters=artifact.adapters[:-1], hash="")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trained:
        raise StageError(f"step {step!r} would train nothing")
    return Prepared(
        model=model,
        adapter_plan=how,
        base=None if how in ("full", "merge") else base,
        incoming=incoming_text(how, len(came)),
        trained=trained,
        parameters=sum(p.numel() for p in model.parameters()),
    )


def check_stack(adapters: Sequence[str], options: ModelOptions) -> None:
    """Refuse to stack what cannot share a forward pass.

    Raises:
        ModelError: one rescales the whole weight (dora), or replaces a whole module.
    """
    for folder in adapters:
        config = read_adapter(Path(folder))
        stackable(bool(config.use_dora), tuple(config.modules_to_save or ()))
    assert options.adapter is not None
    stackable(options.adapter.method == "dora", options.adapter.modules_to_save)


def stackable(dora: bool, modules_to_save: tuple[str, ...]) -> None:
    """Whether an adapter of this kind can be one of a stack; see `check_stack`."""
    hint = "use `incoming: merge`, or `incoming: continue`"
    if dora:
        raise ModelError(
            "a dora adapter rescales the whole weight, so it cannot be one of a stack",
            hint=hint,
        )
    if modules_to_save:
        raise ModelError(
            f"an adapter that replaces {', '.join(modules_to_save)} cannot be one of a stack",
            hint=hint,
        )


def incoming_text(how: AdapterPlan, count: int) -> str:
    """What becomes of `count` incoming adapters, for the plan table.

    >>> incoming_text("stack", 2)
    '2 adapters kept, frozen; new adapter on top'
    """
    came = "adapter" if count == 1 else f"{count} adapters"
    return {
        "full": "",
        "fresh": "",
        "continue": "adapter trained further"
        if count == 1
        else f"topmost of {came} trained further",
        "merge": f"{came} merged",
        "merge and fresh": f"{came} merged; new adapter",
        "stack": f"{came} kept, frozen; new adapter on top",
    }[how]
