"""Information about models before their weights load, and checks that a step can train them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from aligner.errors import AlignerError, ErrorCollector, ErrorGroup, ModelError, error_location
from aligner.models.adapters import (
    activate,
    adapter_names,
    adapter_stack,
    attach_config,
    belongs_to,
    copy_config,
    lora_config,
)
from aligner.models.compatibility import adapter_errors, check_head, check_shapes, stack_errors
from aligner.models.files import check_config
from aligner.models.fresh import fresh_config
from aligner.models.meta_model import meta_model, model_class, parse_config
from aligner.models.options import AdapterPlan, FreshModel, ModelOptions, adapter_plan
from aligner.models.policy import describe_incoming
from aligner.models.precision import option_errors
from aligner.models.resolve import local_folder
from aligner.models.saved_adapters import read_adapter
from aligner.stage import PlanContext
from aligner.state import Artifact, Slot


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Information about a model for planning; the model may not exist yet."""

    config: Mapping[str, Any]
    """`config.json`."""
    reward: bool
    """True for a sequence classifier with one output."""
    parameters: int
    """Number of parameters, tied ones once, without adapters."""
    positions: int | None
    """Longest sequence in tokens, if the architecture has a limit."""
    vocab_size: int
    """Number of rows of the embedding."""
    dtype: str
    adapters: tuple[LoraConfig, ...] = ()
    """Configs of the adapters, lowest first."""
    backbone: object = field(default_factory=object, compare=False, repr=False)
    """Identity of the weights below head and adapters, equal for models that share them."""


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """Planned training of a model by a step."""

    adapter_plan: AdapterPlan
    incoming: str
    trained: int
    parameters: int
    after: ModelInfo
    """The model after the step."""


def planned_model(context: PlanContext, slot: Slot) -> ModelInfo:
    """Return information about the model that will fill `slot`; it is read once per chain.

    Raises:
        ModelError: no earlier step forecasts it.
    """
    forecast = context.slots.get(slot)
    known = forecast.facts if forecast is not None else {}
    if isinstance(info := known.get("model"), ModelInfo):
        return info
    artifact = known.get("artifact")
    if not isinstance(artifact, Artifact):
        raise ModelError(f"no earlier step forecasts the model in {slot!r}")
    key = f"model info {artifact.hash or artifact} {slot}"
    if key not in context.memo:
        context.memo[key] = model_info(artifact, reward=slot == "reward")
    found = context.memo[key]
    assert isinstance(found, ModelInfo)
    return found


def model_info(artifact: Artifact, *, reward: bool = False) -> ModelInfo:
    """Read information about a model from its config and the headers of its weights.

    Raises:
        ModelError: the model cannot be loaded safely, has no reward head, or has an adapter that is not
            supported or of another model.
    """
    folder = local_folder(artifact, weights=artifact.local)
    config = check_config(folder)
    adapters = tuple(read_adapter(Path(path)) for path in artifact.adapters)
    if reward:
        check_head(folder, config, adapters)
    info = info_of_config(config, reward=reward)
    for path, adapter in zip(artifact.adapters, adapters, strict=True):
        shape = _shape_of(config, reward=reward)
        check_shapes(shape, adapter, Path(path))
    source = os.path.realpath(artifact.path) if artifact.local else artifact.path
    return replace(info, adapters=adapters, backbone=(source, artifact.revision))


def info_of_config(config: Mapping[str, Any], *, reward: bool = False) -> ModelInfo:
    """Return information about a model with this `config.json`."""
    shape = _shape_of(config, reward=reward)
    text = shape.config.get_text_config()
    embedding: Any = shape.get_input_embeddings()
    return ModelInfo(
        config=config,
        reward=reward,
        parameters=_count(shape),
        positions=getattr(text, "max_position_embeddings", None),
        vocab_size=embedding.weight.shape[0],
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
    )


def fresh_info(options: FreshModel, *, vocab_size: int) -> ModelInfo:
    """Return information about the model that `fresh_model` creates."""
    return info_of_config(fresh_config(options, vocab_size=vocab_size).to_dict())


def with_vocabulary(info: ModelInfo, rows: int) -> ModelInfo:
    """Return the information after the embedding is resized to at least `rows` rows."""
    if rows <= info.vocab_size:
        return info
    config = dict(info.config) | {"vocab_size": rows}
    return replace(info_of_config(config, reward=info.reward), adapters=info.adapters)


def reward_info(info: ModelInfo) -> ModelInfo:
    """Return information about the reward model made of a policy: adapters merged, head replaced."""
    kind = model_class(parse_config(info.config), reward=True).__name__
    config = dict(info.config) | {"architectures": [kind], "num_labels": 1}
    made = info_of_config(config, reward=True)
    return made if info.adapters else replace(made, backbone=info.backbone)


def plan_training(
    info: ModelInfo, options: ModelOptions, *, at: Callable[[str], str] = lambda option: ""
) -> PlannedTraining:
    """Plan how a step with `options` trains a model, with exact parameter counts.

    Args:
        info: The incoming model.
        options: Options of the step.
        at: Location of an option, as `context.at` gives it.

    Raises:
        AlignerError: every error found.
    """
    errors = ErrorCollector()
    errors.found += option_errors(options, at=at)
    how: AdapterPlan | None = None
    with errors, error_location(at("incoming")):
        how = adapter_plan(info.adapters, options)
    if how is None:
        errors.raise_if_any()
    assert how is not None, "without an error there is a plan"
    if options.quantize is not None and how == "full":
        errors.found.append(
            ModelError(
                f"`quantize: {options.quantize}`, but quantized weights cannot be trained",
                where=at("quantize"),
                hint="add an `adapter`, or remove `quantize`",
            )
        )
    with error_location(at("model")):
        shape = _shape_of(info.config, reward=info.reward)
    if options.adapter is not None:
        with errors, error_location(at("adapter")):
            ErrorGroup.raise_if_any(adapter_errors(shape, options.adapter))
    if how == "stack":
        assert options.adapter is not None
        with errors, error_location(at("incoming")):
            ErrorGroup.raise_if_any(
                stack_errors(info.adapters, options.adapter, reward=info.reward)
            )
    errors.raise_if_any()
    with error_location(at("adapter")):
        model, adapters = _build(shape, info, options, how)
    kept = how in ("fresh", "continue", "stack")
    return PlannedTraining(
        adapter_plan=how,
        incoming=describe_incoming(how, len(info.adapters)),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters=_count(model),
        after=replace(info, adapters=adapters, backbone=info.backbone if kept else object()),
    )


def adapter_parameters(info: ModelInfo) -> int:
    """Count the parameters of the adapters, including modules that they replace."""
    if not info.adapters:
        return 0
    shape = _shape_of(info.config, reward=info.reward)
    names = adapter_names(len(info.adapters))
    model = _stacked(shape, info.adapters)
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if any(belongs_to(name, adapter) for adapter in names)
    )


def length_errors(info: ModelInfo, max_length: int | None) -> list[AlignerError]:
    """Find a `max_length` above the model's positions."""
    if max_length is None or info.positions is None or max_length <= info.positions:
        return []
    what = f"max_length {max_length} is above the {info.positions} positions of the model"
    return [ModelError(what, hint=f"use {info.positions} or less")]


def vocabulary_errors(info: ModelInfo, tokens: int) -> list[AlignerError]:
    """Find a tokenizer with more tokens than the model's embedding has rows."""
    if tokens <= info.vocab_size:
        return []
    what = (
        f"the tokenizer has {tokens} tokens, but the model's embedding has {info.vocab_size} rows"
    )
    return [ModelError(what, hint="add an earlier `chat` step, which resizes the embedding")]


def pad_errors(pad: int | None, eos: int | None) -> list[AlignerError]:
    """Find a pad token that hides from a reward model whether an answer ended."""
    if pad is None:
        what, hint = (
            "the tokenizer has no padding token",
            "add an earlier `chat` step, which sets one",
        )
    elif pad == eos:
        what = (
            f"the padding token is also the end-of-text token (id {pad}), so a reward model cannot see "
            "that an answer ended"
        )
        hint = "add an earlier `chat` step, which sets a padding token"
    else:
        return []
    return [ModelError(what, hint=hint)]


def _shape_of(config: Mapping[str, Any], *, reward: bool) -> PreTrainedModel:
    settings = parse_config(config)
    return meta_model(settings, like=model_class(settings, reward=reward))


def _build(
    shape: PreTrainedModel, info: ModelInfo, options: ModelOptions, how: AdapterPlan
) -> tuple[PreTrainedModel | PeftModel, tuple[LoraConfig, ...]]:
    """Return the model as the step trains it, on the meta device, and the configs of its adapters."""
    kept = info.adapters if how in ("continue", "stack") else ()
    if how in ("fresh", "merge and fresh", "stack"):
        assert options.adapter is not None
        kept = (*kept, lora_config(options.adapter, shape, reward=info.reward))
    if not kept:
        return shape.requires_grad_(True), ()
    model = _stacked(shape, kept)
    activate(model, adapter_stack(model), train=True)
    return model, kept


def _stacked(shape: PreTrainedModel, adapters: Sequence[LoraConfig]) -> PeftModel:
    """Add adapters to `shape`, on the meta device."""
    model: PreTrainedModel | PeftModel = shape
    for config, name in zip(adapters, adapter_names(len(adapters)), strict=True):
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = attach_config(model, copy_config(config), name)
    assert isinstance(model, PeftModel)
    return model


def _count(model: PreTrainedModel | PeftModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
