"""Fit a model to its tokenizer: as many embedding rows as tokens, and the same special ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from aligner.models.clean import remember


def resize_embeddings(model: PreTrainedModel, tokenizer: Any) -> int:
    """Give `model` a row for every token; new rows are the mean of the old. The number added.

    A model that has more rows than tokens keeps them. Tied weights stay tied.

    Args:
        model: Without adapters.
        tokenizer: What it will be used with.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    wanted = len(tokenizer)
    if wanted <= rows:
        return 0
    tied = _head_rows(model) is model.get_input_embeddings().weight
    old_input = model.get_input_embeddings().weight.detach().clone()
    head = _head_rows(model)
    old_head = None if head is None or tied else head.detach().clone()
    model.resize_token_embeddings(wanted, mean_resizing=False)
    with torch.no_grad():
        _mean_rows(model.get_input_embeddings().weight, old_input)
        if old_head is not None:
            _mean_rows(model.get_output_embeddings().weight, old_head)
            bias = model.get_output_embeddings().bias
            if bias is not None:
                bias[rows:] = bias[:rows].float().mean().to(bias.dtype)
    remember(model)
    return int(wanted - rows)


def set_token_ids(model: PreTrainedModel, tokenizer: Any, *, stop_ids: Sequence[int] = ()) -> None:
    """Tell `model` how texts begin, stop and are padded, for training and generation alike.

    Args:
        model: Changed in place, without adapters.
        tokenizer: Where `bos`, `eos` and `pad` come from.
        stop_ids: Tokens that end an answer; empty means the tokenizer's `eos`.
    """
    stops = list(dict.fromkeys(stop_ids)) or [tokenizer.eos_token_id]
    for settings in (model.config, model.generation_config):
        if settings is not None:
            settings.bos_token_id = tokenizer.bos_token_id
            settings.pad_token_id = tokenizer.pad_token_id
            settings.eos_token_id = stops[0]
    if model.generation_config is not None:
        model.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
    remember(model)


def _head_rows(model: PreTrainedModel) -> torch.Tensor | None:
    head = model.get_output_embeddings()
    return None if head is None else head.weight


def _mean_rows(weight: torch.Tensor, old: torch.Tensor) -> None:
    weight[: old.shape[0]] = old
    weight[old.shape[0] :] = old.float().mean(dim=0).to(weight.dtype)
