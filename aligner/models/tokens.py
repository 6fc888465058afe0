"""Fit a model to its tokenizer: as many embedding rows as tokens, and the same special ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from aligner.models.adapters import seeded
from aligner.models.clean import snapshot_settings


def resize_embeddings(model: PreTrainedModel, tokenizer: Any) -> int:
    """Give `model` a row for every token; new rows are the mean of the old. The number added.

    A model that has more rows than tokens keeps them. Tied weights stay tied.

    Args:
        model: Without adapters.
        tokenizer: What it will be used with.
    """
    ends = [end for end in _ends(model) if end is not None]
    wanted, rows = len(tokenizer), ends[0].weight.shape[0]
    if wanted <= rows:
        return 0
    kept = [{n: p.detach().clone() for n, p in end.named_parameters(recurse=False)} for end in ends]
    noted = "vocab_size" in model.__dict__
    with seeded(0, "resize"):
        model.resize_token_embeddings(wanted, mean_resizing=False)
    if not noted:
        model.__dict__.pop("vocab_size", None)  # the config says it
    for end, old in zip(_ends(model), kept, strict=False):
        for name, parameter in old.items():
            _mean_rows(getattr(end, name), parameter)
    snapshot_settings(model)
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
    snapshot_settings(model)


def _ends(model: PreTrainedModel) -> tuple[Any, Any]:
    """The embedding, and the head that predicts tokens or None."""
    return model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]


def _mean_rows(rows: torch.Tensor, old: torch.Tensor) -> None:
    with torch.no_grad():
        rows[: old.shape[0]] = old
        rows[old.shape[0] :] = old.float().mean(dim=0).to(rows.dtype)
