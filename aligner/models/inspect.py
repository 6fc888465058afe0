"""What can be known of a model before its weights are loaded, and whether a step can train it."""

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
    attach_config,
    belongs_to,
    copied,
    lora_config,
    names_of,
    stack_of,
)
from aligner.models.checks import adapter_errors, check_head, check_shapes, stack_errors
from aligner.models.files import check_config
from aligner.models.fresh import fresh_config
from aligner.models.options import AdapterPlan, FreshModel, ModelOptions, adapter_plan
from aligner.models.policy import incoming_text
from aligner.models.precision import option_errors
from aligner.models.resolve import folder_of
from aligner.models.saved_adapters import read_adapter
from aligner.models.skeleton import config_from, model_class, skeleton
from aligner.stage import PlanContext
from aligner.state import Artifact, Slot


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model as planning knows it; it may not exist yet."""

    config: Mapping[str, Any]
    """`config.json`."""
    reward: bool
    """Its head gives one metric, not tokens."""
    parameters: int
    """Of the whole weights, tied ones once, adapters not counted."""
    positions: int | None
    """Longest sequence in tokens, where the architecture has a limit."""
    vocab_size: int
    """Rows of the embedding."""
    dtype: str
    adapters: tuple[LoraConfig, ...] = ()
    """Settings of the adapters on top, the lowest first."""
    whole: object = field(default_factory=object, compare=False, repr=False)
    """Stands for the weights below head and adapters: two models that have the same one share them."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a step will train, for its Plan."""

    adapter_plan: AdapterPlan
    incoming: str
    trained: int
    parameters: int
    after: ModelInfo
    """The model that the step leaves."""


def planned_model(context: PlanContext, slot: Slot) -> ModelInfo:
    """The model that will fill `slot` when the step starts, read once for the whole chain.

    Raises:
        ModelError: no step before says which one that will be.
    """
    outlook = context.slots.get(slot)
    known = outlook.facts if outlook is not None else {}
    if isinstance(facts := known.get("model"), ModelInfo):
        return facts
    artifact = known.get("artifact")
    if not isinstance(artifact, Artifact):
        raise ModelError(f"no step before says what it leaves in {slot!r}")
    key = f"model facts {artifact.hash or artifact} {slot}"
    if key not in context.memo:
        context.memo[key] = model_info(artifact, reward=slot == "reward")
    found = context.memo[key]
    assert isinstance(found, ModelInfo)
    return found


def model_info(artifact: Artifact, *, reward: bool = False) -> ModelInfo:
    """What the settings of `artifact` and the headers of its weights say.

    Raises:
        ModelError: it cannot be loaded safely; a reward model without a head; an adapter of
            a kind that cannot be carried, or of other shapes than this model.
    """
    folder = folder_of(artifact, weights=artifact.local)
    config = check_config(folder)
    adapters = tuple(read_adapter(Path(path)) for path in artifact.adapters)
    if reward:
        check_head(folder, config, adapters)
    facts = info_from(config, reward=reward)
    for path, one in zip(artifact.adapters, adapters, strict=True):
        shape = _shape_of(config, reward=reward)
        check_shapes(shape, one, Path(path))
    place = os.path.realpath(artifact.path) if artifact.local else artifact.path
    return replace(facts, adapters=adapters, whole=(place, artifact.revision))


def info_from(config: Mapping[str, Any], *, reward: bool = False) -> ModelInfo:
    """What follows from a `config.json`."""
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
    """What `fresh_model` will make."""
    return info_from(fresh_config(options, vocab_size=vocab_size).to_dict())


def with_vocabulary(facts: ModelInfo, rows: int) -> ModelInfo:
    """The same model after its embedding has been given at least `rows` rows."""
    if rows <= facts.vocab_size:
        return facts
    config = dict(facts.config) | {"vocab_size": rows}
    return replace(info_from(config, reward=facts.reward), adapters=facts.adapters)


def reward_info(facts: ModelInfo) -> ModelInfo:
    """The reward model that is made from a policy: its adapters merged, its head replaced."""
    kind = model_class(config_from(facts.config), reward=True).__name__
    config = dict(facts.config) | {"architectures": [kind], "num_labels": 1}
    made = info_from(config, reward=True)
    return made if facts.adapters else replace(made, whole=facts.whole)


def plan_training(
    facts: ModelInfo, options: ModelOptions, *, at: Callable[[str], str] = lambda option: ""
) -> Training:
    """What a step with `options` will do to the model of `facts`, counted exactly.

    Args:
        facts: The model that comes in.
        options: The step's.
        at: Where an option is written; `context.at`.

    Raises:
        AlignerError: every reason found why this cannot be done.
    """
    errors = ErrorCollector()
    errors.found += option_errors(options, at=at)
    how: AdapterPlan | None = None
    with errors, error_location(at("incoming")):
        how = adapter_plan(facts.adapters, options)
    if how is None:
        errors.raise_if_any()
    assert how is not None, "without an error there is a plan"
    if options.quantize is not None and how == "full":
        errors.found.append(
            ModelError(
                f"`quantize: {options.quantize}` holds weights that cannot be trained",
                where=at("quantize"),
                hint="add an `adapter`, or leave `quantize` out",
            )
        )
    with error_location(at("model")):
        shape = _shape_of(facts.config, reward=facts.reward)
    if options.adapter is not None:
        with errors, error_location(at("adapter")):
            ErrorGroup.raise_if_any(adapter_errors(shape, options.adapter))
    if how == "stack":
        assert options.adapter is not None
        with errors, error_location(at("incoming")):
            ErrorGroup.raise_if_any(
                stack_errors(facts.adapters, options.adapter, reward=facts.reward)
            )
    errors.raise_if_any()
    with error_location(at("adapter")):
        model, adapters = _build(shape, facts, options, how)
    kept = how in ("fresh", "continue", "stack")
    return Training(
        adapter_plan=how,
        incoming=incoming_text(how, len(facts.adapters)),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters=_count(model),
        after=replace(facts, adapters=adapters, whole=facts.whole if kept else object()),
    )


def adapter_parameters(facts: ModelInfo) -> int:
    """Parameters of the adapters, with the modules that they replace."""
    if not facts.adapters:
        return 0
    shape = _shape_of(facts.config, reward=facts.reward)
    names = names_of(len(facts.adapters))
    model = _stacked(shape, facts.adapters)
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if any(belongs_to(name, one) for one in names)
    )


def length_errors(facts: ModelInfo, max_length: int | None) -> list[AlignerError]:
    """Whether sequences of `max_length` tokens fit the model's positions."""
    if max_length is None or facts.positions is None or max_length <= facts.positions:
        return []
    what = f"max_length {max_length} is above the {facts.positions} positions of the model"
    return [ModelError(what, hint=f"use {facts.positions} or less")]


def vocabulary_errors(facts: ModelInfo, tokens: int) -> list[AlignerError]:
    """Whether the embedding has a row for each of the tokenizer's `tokens`."""
    if tokens <= facts.vocab_size:
        return []
    what = f"the tokenizer has {tokens} tokens, and the model's embedding {facts.vocab_size} rows"
    return [ModelError(what, hint="let an earlier step fit the model to its tokenizer")]


def pad_errors(pad: int | None, eos: int | None) -> list[AlignerError]:
    """Whether a reward model can tell an answer that stops from one that does not."""
    if pad is None:
        what, hint = "the tokenizer has no padding token", "let an earlier step give it one"
    elif pad == eos:
        what = f"the padding token is also the end of text (id {pad}): a reward could never see an answer end"
        hint = "let an earlier step give it a padding token of its own"
    else:
        return []
    return [ModelError(what, hint=hint)]


def _shape_of(config: Mapping[str, Any], *, reward: bool) -> PreTrainedModel:
    settings = config_from(config)
    return skeleton(settings, like=model_class(settings, reward=reward))


def _build(
    shape: PreTrainedModel, facts: ModelInfo, options: ModelOptions, how: AdapterPlan
) -> tuple[PreTrainedModel | PeftModel, tuple[LoraConfig, ...]]:
    """The model as the step will train it, on the meta device, and the adapters it then has."""
    kept = facts.adapters if how in ("continue", "stack") else ()
    if how in ("fresh", "merge and fresh", "stack"):
        assert options.adapter is not None
        kept = (*kept, lora_config(options.adapter, shape, reward=facts.reward))
    if not kept:
        return shape.requires_grad_(True), ()
    model = _stacked(shape, kept)
    activate(model, stack_of(model), train=True)
    return model, kept


def _stacked(shape: PreTrainedModel, adapters: Sequence[LoraConfig]) -> PeftModel:
    """`shape` with adapters on it, on the meta device."""
    model: PreTrainedModel | PeftModel = shape
    for one, name in zip(adapters, names_of(len(adapters)), strict=True):
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = attach_config(model, copied(one), name)
    assert isinstance(model, PeftModel)
    return model


def _count(model: PreTrainedModel | PeftModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
