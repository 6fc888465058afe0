"""Build a model's shape without its weights, on torch's meta device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from aligner.errors import ModelError


def skeleton(config: PreTrainedConfig, *, like: type[PreTrainedModel]) -> PreTrainedModel:
    """A model of class `like` and settings `config` whose tensors have shapes and no content."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape: PreTrainedModel = like._from_config(config)  # type: ignore[no-untyped-call]
        return shape


def config_from(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """The settings in a `config.json` that has been checked, as transformers holds them."""
    kind = str(raw.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"model_type {kind!r} is none that transformers knows",
            hint="aligner runs no code that comes with a model",
        )
    try:
        return CONFIG_MAPPING[kind].from_dict(dict(raw))
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"the model's config.json makes no sense: {error}") from error


def model_class(config: PreTrainedConfig, *, reward: bool) -> type[PreTrainedModel]:
    """The transformers class that predicts tokens with this architecture, or the one that scores."""
    auto = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        what = "as a reward model" if reward else "as a language model"
        raise ModelError(f"transformers cannot use the architecture {config.model_type!r} {what}")
    found: Any = auto._model_mapping[type(config)]
    kind: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return kind
