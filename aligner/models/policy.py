"""Load and prepare the model that a step trains: merge, freeze, and add adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from aligner.errors import ErrorGroup, ModelError, StageError
from aligner.models.adapters import activate, adapter_stack, attach_fresh, merge_stack
from aligner.models.load import cast, load_as
from aligner.models.options import AdapterPlan, ModelOptions, adapter_plan
from aligner.models.precision import option_errors, precision_of, weights_dtype
from aligner.models.restore import restore_model, settings_of, snapshot_settings
from aligner.models.saved_adapters import read_adapter
from aligner.state import Artifact, ModelCache


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """Model that is ready for training, with what saving it and its reference need."""

    model: PreTrainedModel | PeftModel
    adapter_plan: AdapterPlan
    base: Artifact | None
    """Base of the trained adapter; None if the weights below it are new themselves."""
    incoming: str
    """Treatment of incoming adapters, for the plan table."""
    trained: int
    """Number of parameters that require a gradient."""
    parameters: int
    """Number of all parameters, adapters included."""


def load_policy(
    artifact: Artifact,
    model_cache: ModelCache,
    options: ModelOptions,
    *,
    step: str,
    seed: int,
    reward: bool = False,
    on: torch.device | None = None,
) -> PreparedModel:
    """Load a model in its training precision, and prepare it for training.

    Args:
        artifact: The incoming policy or reward model.
        model_cache: May contain the model in memory.
        options: Adapter, treatment of incoming adapters, precision, quantization, attention kernel.
        step: Name of the stage; with `seed` it determines the weights of a new adapter.
        seed: Seed of the run.
        reward: Load a reward model.
        on: Device; `device()` by default.

    Raises:
        ModelError: the model cannot be loaded or prepared as the options say.
        StageError: no parameter would be trained.
    """
    ErrorGroup.raise_if_any(option_errors(options))
    how = adapter_plan(artifact.adapters, options)
    if options.quantize is not None and how == "full":
        raise ModelError(
            f"`quantize: {options.quantize}`, but quantized weights cannot be trained",
            hint="add an `adapter`, or remove `quantize`",
        )
    exact = how.startswith("merge")  # merged weights are computed in 32 bits
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
) -> PreparedModel:
    """Merge, freeze and add adapters as `options` say; the outputs do not change.

    Args:
        model: Restored model, owned by the caller; changed in place.
        artifact: Artifact of `model`; None if it is new and not saved.
        options: As for `load_policy`.
        step: Name of the stage.
        seed: Seed of the run.
    """
    incoming = adapter_stack(model)
    how = adapter_plan(incoming, options)
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
        activate(model, adapter_stack(model), train=True)
    else:
        model.requires_grad_(True)
    snapshot_settings(model, quantize=quantize)
    restore_model(model)
    base = artifact
    if artifact is not None and how == "continue":
        base = replace(artifact, adapters=artifact.adapters[:-1], hash="")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trained:
        raise StageError(f"step {step!r} would train no parameter")
    return PreparedModel(
        model=model,
        adapter_plan=how,
        base=None if how in ("full", "merge") else base,
        incoming=describe_incoming(how, len(incoming)),
        trained=trained,
        parameters=sum(p.numel() for p in model.parameters()),
    )


def check_stack(adapters: Sequence[str], options: ModelOptions) -> None:
    """Check that saved adapters and a new one can be stacked.

    Raises:
        ModelError: an adapter rescales the full weight (dora), or replaces a full module.
    """
    for folder in adapters:
        config = read_adapter(Path(folder))
        check_stackable(bool(config.use_dora), tuple(config.modules_to_save or ()))
    assert options.adapter is not None
    check_stackable(options.adapter.method == "dora", options.adapter.modules_to_save)


def check_stackable(dora: bool, modules_to_save: tuple[str, ...]) -> None:
    """Check that an adapter of this kind can be part of a stack; see `check_stack`."""
    hint = "use `incoming: merge`, or `incoming: continue`"
    if dora:
        raise ModelError(
            "a dora adapter rescales the full weight, so it cannot be part of a stack",
            hint=hint,
        )
    if modules_to_save:
        raise ModelError(
            f"an adapter that replaces {', '.join(modules_to_save)} cannot be part of a stack",
            hint=hint,
        )


def describe_incoming(how: AdapterPlan, count: int) -> str:
    """Describe the treatment of `count` incoming adapters, for the plan table.

    >>> describe_incoming("stack", 2)
    '2 adapters kept, frozen; new adapter on top'
    """
    adapters = "adapter" if count == 1 else f"{count} adapters"
    return {
        "full": "",
        "fresh": "",
        "continue": "adapter trained further"
        if count == 1
        else f"topmost of {adapters} trained further",
        "merge": f"{adapters} merged",
        "merge and fresh": f"{adapters} merged; new adapter",
        "stack": f"{adapters} kept, frozen; new adapter on top",
    }[how]
