"""Fit a model to its tokenizer: rows of the embedding, and ids of special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from aligner.models.adapters import seeded
from aligner.models.load import load_as
from aligner.models.model_info import model_info
from aligner.models.restore import snapshot_settings
from aligner.models.save import save_model
from aligner.state import Artifact, ModelCache


def add_token_rows(
    policy: Artifact,
    tokenizer: Any,
    folder: Path,
    *,
    stop_ids: Sequence[int],
    model_cache: ModelCache,
    made_by: str,
) -> tuple[Artifact, int]:
    """Save a copy of the policy with an embedding row per token; return the policy itself if it has all.

    Args:
        policy: Model without adapters.
        tokenizer: Tokenizer with the new tokens.
        folder: New folder for the model.
        stop_ids: Tokens that end an answer.
        model_cache: May contain the policy, and receives the new model.
        made_by: Name of the step.

    Returns:
        The policy, and the number of added rows.

    Raises:
        ModelError: the policy cannot be loaded.
    """
    info = model_info(policy)
    added = len(tokenizer) - info.vocab_size
    if added <= 0:
        return policy, 0
    # In the precision of the files: rows are added, nothing is trained.
    model = load_as(policy, model_cache, dtype=getattr(torch, info.dtype))
    assert isinstance(model, PreTrainedModel), "the plan refuses adapters"
    resize_embeddings(model, tokenizer)
    set_token_ids(model, tokenizer, stop_ids=stop_ids)
    return save_model(model, folder, model_cache=model_cache, made_by=made_by), added


def resize_embeddings(model: PreTrainedModel, tokenizer: Any) -> int:
    """Add embedding rows until there is one per token, and return the number of added rows.

    New rows are the mean of the old ones. More rows than tokens are kept, and tied weights stay tied.

    Args:
        model: Model without adapters.
        tokenizer: Tokenizer of the model.
    """
    ends = [end for end in _ends(model) if end is not None]
    needed, rows = len(tokenizer), ends[0].weight.shape[0]
    if needed <= rows:
        return 0
    kept = [{n: p.detach().clone() for n, p in end.named_parameters(recurse=False)} for end in ends]
    had_attribute = "vocab_size" in model.__dict__
    with seeded(0, "resize"):
        model.resize_token_embeddings(needed, mean_resizing=False)
    if not had_attribute:
        model.__dict__.pop("vocab_size", None)  # it is in the config
    for end, old in zip(_ends(model), kept, strict=False):
        for name, parameter in old.items():
            _mean_rows(getattr(end, name), parameter)
    snapshot_settings(model)
    return int(needed - rows)


def set_token_ids(model: PreTrainedModel, tokenizer: Any, *, stop_ids: Sequence[int] = ()) -> None:
    """Set the ids of bos, eos and pad tokens in the model's config and generation config.

    Args:
        model: Model without adapters; changed in place.
        tokenizer: Tokenizer with `bos`, `eos` and `pad`.
        stop_ids: Tokens that end an answer; by default the tokenizer's `eos`.
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
    """Return the embedding, and the LM head or None."""
    return model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]


def _mean_rows(rows: torch.Tensor, old: torch.Tensor) -> None:
    with torch.no_grad():
        rows[: old.shape[0]] = old
        rows[old.shape[0] :] = old.float().mean(dim=0).to(rows.dtype)
