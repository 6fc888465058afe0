"""Create models without weights, on torch's meta device."""

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


def meta_model(config: PreTrainedConfig, *, like: type[PreTrainedModel]) -> PreTrainedModel:
    """Create a model of class `like` on the meta device."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape: PreTrainedModel = like._from_config(config)  # type: ignore[no-untyped-call]
        return shape


def parse_config(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """Parse a checked `config.json` into a transformers config.

    Raises:
        ModelError: transformers does not know the architecture or a value.
    """
    kind = str(raw.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"model_type {kind!r} is unknown to transformers",
            hint="aligner does not run code of a model",
        )
    try:
        return CONFIG_MAPPING[kind].from_dict(dict(raw))
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"the model's config.json is invalid: {error}") from error


def model_class(config: PreTrainedConfig, *, reward: bool) -> type[PreTrainedModel]:
    """Return the transformers class of causal language models, or of reward models."""
    auto = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        what = "as a reward model" if reward else "as a language model"
        raise ModelError(f"transformers cannot use the architecture {config.model_type!r} {what}")
    found: Any = auto._model_mapping[type(config)]
    kind: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return kind
