"""Adapters on a model: attached, switched on and off, merged, and always under the same names."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from aligner.errors import ModelError
from aligner.models.files import check_adapter_folder
from aligner.models.precision import device
from aligner.models.spec import Adapter

TOP = "default"
"""The topmost adapter: the one that is trained. Trainers of trl look for this name."""
REFERENCE = "aligner_reference"
"""A frozen copy of the topmost adapter, while a step needs its incoming policy."""
_PART = r"\.(?:lora_\w+|modules_to_save)\."

# Settings of an adapter from elsewhere that change the weights below it, run code, or that a frozen
# copy or a stack would not carry over.
_UNSUPPORTED = (
    "megatron_config",
    "layer_replication",
    "alora_invocation_tokens",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "velora_config",
    "monteclora_config",
    "kasa_config",
    "arrow_config",
)
_HARMLESS_INITS: tuple[Any, ...] = (True, False, None, "gaussian", "orthogonal")


def names_of(count: int) -> tuple[str, ...]:
    """The names of a stack of `count` adapters, the lowest first.

    >>> names_of(3)
    ('below0', 'below1', 'default')
    """
    return (*(f"below{number}" for number in range(count - 1)), TOP) if count else ()


def stack_of(model: PreTrainedModel | PeftModel) -> tuple[str, ...]:
    """The adapters on `model`, the lowest first; copies made for a reference are not among them."""
    if not isinstance(model, PeftModel):
        return ()
    kept = [name for name in model.peft_config if name == TOP or re.fullmatch(r"below\d+", name)]
    return names_of(len(kept))


def is_reward(model: PreTrainedModel | PeftModel) -> bool:
    """Whether `model` ends in a head that scores, not in one that predicts tokens."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return type(whole).__name__.endswith("ForSequenceClassification")


def activate(model: PeftModel, names: Sequence[str], *, train: bool) -> None:
    """Let exactly `names` take part in the forward pass, and train the topmost alone, or nothing.

    peft's own switches turn on the gradients of whatever they activate, frozen or not.
    """
    tuner: Any = model.base_model
    if names:
        tuner.enable_adapter_layers()
        tuner.set_adapter(list(names), inference_mode=True)
    else:
        tuner.disable_adapter_layers()
    model.active_adapter = TOP
    top = re.compile(rf"{_PART}{TOP}(?:\.|$)")
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(train and top.search(name) is not None)


def belongs_to(parameter: str, adapter: str) -> bool:
    """Whether the parameter of this name is part of `adapter`."""
    return re.search(rf"{_PART}{adapter}(?:\.|$)", parameter) is not None


@contextmanager
def seeded(seed: int, step: str) -> Iterator[None]:
    """Draw random numbers that depend on nothing but `seed` and `step`, and leave the others alone."""
    number = int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:4], "big")
    here = device()
    devices = [here] if here.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(number)
        yield


def lora_config(adapter: Adapter, model: nn.Module, *, reward: bool) -> LoraConfig:
    """The settings of peft for `adapter`; a reward model's head is always trained with it."""
    head = _head_names(model) if reward else ()
    conv = any(isinstance(module, Conv1D) for module in model.modules())
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if reward else TaskType.CAUSAL_LM,
        r=adapter.r,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # peft only divides it
        lora_dropout=adapter.dropout,
        target_modules=adapter.targets if adapter.targets == "all-linear" else [*adapter.targets],
        modules_to_save=sorted({*adapter.modules_to_save, *head}) or None,
        use_rslora=adapter.method == "rslora",
        use_dora=adapter.method == "dora",
        fan_in_fan_out=conv,
    )


def attach_config(
    model: PreTrainedModel | PeftModel, config: LoraConfig, name: str, *, where: str = ""
) -> PeftModel:
    """Put the adapter that `config` describes on `model` under `name`, with peft's own first weights."""
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings(
            "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
        )
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
        try:
            if isinstance(model, PeftModel):
                model.add_adapter(name, config)
                wrapped = model
            else:
                wrapped = get_peft_model(model, config, adapter_name=name)
        except ValueError as error:
            if "ParamWrapper" not in str(error):
                raise
            raise _experts(where) from error
    # For a mixture of experts peft turns targets into fused tensors, which it cannot stack or copy.
    if config.target_parameters:
        raise _experts(where)
    return wrapped


def _experts(where: str) -> ModelError:
    return ModelError(
        "an adapter on the experts of a mixture cannot be carried along a chain",
        where=where,
        hint="name other modules, such as `targets: [q_proj, k_proj, v_proj, o_proj]`",
    )


def attach_fresh(
    model: PreTrainedModel | PeftModel, adapter: Adapter, *, seed: int, step: str, where: str = ""
) -> PeftModel:
    """Put a new adapter on top that adds nothing yet; those that are on stay on, frozen."""
    if isinstance(model, PeftModel):
        count = len(stack_of(model))
        _rename_top(model, f"below{count - 1}")
    reward = is_reward(model)
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    config = lora_config(adapter, whole, reward=reward)
    with seeded(seed, step):
        model = attach_config(model, config, TOP, where=where)
    activate(model, stack_of(model), train=True)
    return model


def attach_saved(model: PreTrainedModel, folders: Sequence[str], *, where: str = "") -> PeftModel:
    """Put saved adapters on whole weights, the lowest first, all on and all frozen.

    Raises:
        ModelError: not a LoRA adapter in safetensors, or one that does not fit this model.
    """
    assert folders, "no adapter to attach"
    wrapped: PreTrainedModel | PeftModel = model
    for folder, name in zip(folders, names_of(len(folders)), strict=True):
        config = read_adapter(Path(folder), where=where)
        weights = load_file(Path(folder) / "adapter_model.safetensors")
        with seeded(0, folder):
            wrapped = _add_checked(wrapped, config, name, folder, where=where)
        _fill(wrapped, weights, name, folder, where=where)
    assert isinstance(wrapped, PeftModel)
    activate(wrapped, stack_of(wrapped), train=False)
    return wrapped


def attach_beside(
    model: PeftModel, folder: str, name: str, *, without: Collection[str], where: str = ""
) -> None:
    """Put a saved adapter beside those of `model`, off and frozen; the model computes as before.

    Args:
        model: Has adapters of its own.
        folder: The saved adapter.
        name: What it is called from here on; `clean` takes off all but the model's own.
        without: Whole modules among its weights that `model` does not have.
        where: `file:line` for complaints.

    Raises:
        ModelError: it does not fit.
    """
    config = copied(read_adapter(Path(folder), where=where))
    config.task_type, config.inference_mode = model.peft_config[TOP].task_type, True
    config.modules_to_save = sorted({*(config.modules_to_save or ())} - {*without}) or None
    weights = load_file(Path(folder) / "adapter_model.safetensors")
    weights = {k: v for k, v in weights.items() if not {*without} & {*k.split(".")}}
    with gradients_kept(model):
        with seeded(0, folder):
            _add_checked(model, config, name, folder, where=where)
        _fill(model, weights, name, folder, where=where)
        activate(model, stack_of(model), train=False)


@contextmanager
def gradients_kept(model: nn.Module) -> Iterator[None]:
    """Let what requires a gradient be as it was after the body; what the body adds requires none."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(before.get(name, False))


def read_adapter(folder: Path, *, where: str = "") -> LoraConfig:
    """The settings of a saved adapter, refused if it is of a kind that chains cannot carry."""
    raw = check_adapter_folder(folder, where=where)
    kind = str(raw.get("peft_type", ""))
    if kind != "LORA":
        raise ModelError(
            f"{folder} is an adapter of kind {kind!r}, which cannot be continued, merged or stacked",
            where=where,
            hint="aligner carries lora, rslora and dora",
        )
    found = [name for name in _UNSUPPORTED if raw.get(name)]
    init = raw.get("init_lora_weights", True)
    if init not in _HARMLESS_INITS:
        found.append(f"init_lora_weights: {init}")
    if found:
        raise ModelError(
            f"{folder} is a LoRA adapter with {', '.join(found)}, which cannot be carried along a chain",
            where=where,
            hint="merge it into its model with peft first, and start from the merged model",
        )
    # peft warns of a base that lies elsewhere now, and finished steps lie elsewhere than they were made.
    known = {field.name for field in fields(LoraConfig)} - {"base_model_name_or_path"}
    return LoraConfig(**{key: value for key, value in raw.items() if key in known})


def copy_top(model: PeftModel, name: str) -> None:
    """Add a copy of the topmost adapter under `name`, equal to the bit."""
    with seeded(0, name):
        attach_config(model, copied(model.peft_config[TOP]), name)
    state = get_peft_model_state_dict(model, adapter_name=TOP, save_embedding_layers=False)
    set_peft_model_state_dict(model, {k: v.detach().clone() for k, v in state.items()}, name)
    parameters = dict(model.named_parameters())
    for top in [key for key in parameters if belongs_to(key, TOP)]:
        twin = re.sub(rf"({_PART}){TOP}(\.|$)", rf"\g<1>{name}\g<2>", top)
        assert torch.equal(parameters[top], parameters[twin]), f"{twin} is not a copy of {top}"


def merge_stack(model: PeftModel) -> PreTrainedModel:
    """Fold every adapter into the weights, the lowest first, and train all of them from here on."""
    merged: PreTrainedModel = model.merge_and_unload(
        safe_merge=True, adapter_names=list(stack_of(model))
    )
    # peft leaves every merged weight frozen: what followed would train nothing.
    return merged.requires_grad_(True)


def _add_checked(
    model: PreTrainedModel | PeftModel, config: LoraConfig, name: str, folder: str, *, where: str
) -> PeftModel:
    try:
        return attach_config(model, config, name)
    except ValueError as error:
        raise ModelError(
            f"the adapter in {folder} does not fit this model: {error}",
            where=where,
            hint="it belongs on another model",
        ) from error


def _fill(
    model: PreTrainedModel | PeftModel,
    weights: dict[str, torch.Tensor],
    name: str,
    folder: str,
    *,
    where: str,
) -> None:
    try:
        report: Any = set_peft_model_state_dict(model, weights, adapter_name=name)
    except RuntimeError as error:
        shape = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"the adapter in {folder} does not fit this model: {shape}",
            where=where,
            hint="it was trained on a model of another size, or with another vocabulary",
        ) from error
    missing = [key for key in report.missing_keys if belongs_to(key, name)]
    wrong = [f"no {key}" for key in missing] + [
        f"a foreign {key}" for key in report.unexpected_keys
    ]
    if wrong:
        raise ModelError(
            f"the adapter in {folder} does not fit this model: it has {wrong[0]}"
            + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""),
            where=where,
            hint="it belongs on another model",
        )


def _rename_top(model: PeftModel, name: str) -> None:
    copy_top(model, name)
    activate(model, [name], train=False)
    model.delete_adapter(TOP)


def copied(config: Any) -> LoraConfig:
    """Settings of their own: peft adds to those that it is given."""
    raw = {field.name: getattr(config, field.name) for field in fields(config) if field.init}
    return LoraConfig(**raw)


def _head_names(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        name for name in ("score", "classifier", "classification_head") if hasattr(model, name)
    )
