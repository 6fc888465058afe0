"""Load, create and split reward models: sequence classifiers with one output."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from aligner.errors import ModelError
from aligner.models.adapters import merge_stack, seeded
from aligner.models.load import load_as, load_model, move_to
from aligner.models.meta_model import model_class
from aligner.models.options import Attention, ModelOptions, Precision
from aligner.models.policy import PreparedModel, prepare_policy
from aligner.models.restore import base_model, restore_model, snapshot_settings
from aligner.state import Artifact, ModelCache


def load_reward(
    artifact: Artifact,
    model_cache: ModelCache,
    *,
    precision: Precision = "auto",
    attn_implementation: Attention = "auto",
    on: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """Load a reward model, frozen; see `load_model`.

    Raises:
        ModelError: the files contain no head, or one with several outputs.
    """
    return load_model(
        artifact,
        model_cache,
        precision=precision,
        attn_implementation=attn_implementation,
        reward=True,
        on=on,
    )


@dataclass(frozen=True, kw_only=True)
class RewardParts:
    """Trunk and head of a reward model, to read scores at any position."""

    trunk: Any
    """The transformers model without its head: embeddings and layers."""
    head: nn.Module
    """Computes a score for each hidden state."""
    active: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Context in which both compute as the reward model; the trunk may be shared."""


def split_reward_model(model: PreTrainedModel | PeftModel) -> RewardParts:
    """Split a reward model that shares no weights.

    Raises:
        ModelError: it has no head called `score`.
    """
    whole = base_model(model)
    return RewardParts(trunk=whole.base_model, head=reward_head(whole))


def reward_head(model: Any) -> nn.Module:
    """Return the head of a sequence classifier.

    Raises:
        ModelError: it has no head called `score`.
    """
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Module):
        raise ModelError(
            f"{type(model).__name__} has no head called `score`",
            hint="use a reward model of a decoder-only architecture",
        )
    return head


def make_reward(
    policy: Artifact,
    model_cache: ModelCache,
    *,
    seed: int,
    pad: int,
    attn_implementation: Attention = "auto",
    on: torch.device | None = None,
) -> PreTrainedModel:
    """Create a reward model with the policy's weights and a new head, in fp32; the policy is not changed.

    Adapters of the policy are merged into the copy. The head is initialized from a normal distribution of
    variance 1/(width + 1) (Stiennon et al. 2020, appendix B.1).

    Args:
        policy: Model with the initial weights: the chain's policy, or another base.
        model_cache: May contain the policy in memory, and keeps it.
        seed: Seed of the head.
        pad: Id of the padding token; the last token that is not padding is scored.
        attn_implementation: Attention kernel.
        on: Device; `device()` by default.
    """
    source = _copy_of(policy, model_cache, attn_implementation=attn_implementation, on=on)
    if isinstance(source, PeftModel):
        source = merge_stack(source)
    config = copy.deepcopy(source.config)
    kind = model_class(config, reward=True)
    config.num_labels, config.pad_token_id = 1, pad
    config.architectures = [kind.__name__]
    with seeded(seed, "reward head"):
        model = kind(config)
        prefix = model.base_model_prefix
        getattr(model, prefix).load_state_dict(getattr(source, prefix).state_dict())
        for name, parameter in model.named_parameters():
            if not name.startswith(f"{prefix}."):
                _initialize(name, parameter)
    move_to(model, source.device)
    snapshot_settings(model)
    restore_model(model)
    return model


def load_reward_to_train(
    policy: Artifact,
    model_cache: ModelCache,
    options: ModelOptions,
    *,
    step: str,
    seed: int,
    pad: int,
    on: torch.device | None = None,
) -> PreparedModel:
    """Create a reward model by `make_reward`, and prepare it for training as `options` say."""
    if options.quantize is not None:
        raise ModelError(
            f"`quantize: {options.quantize}` needs saved weights, but a new reward model is not saved yet",
            hint="remove `quantize` from this step",
        )
    model = make_reward(
        policy,
        model_cache,
        seed=seed,
        pad=pad,
        attn_implementation=options.attn_implementation,
        on=on,
    )
    return prepare_policy(model, None, options=options, step=step, seed=seed)


def _copy_of(
    policy: Artifact,
    model_cache: ModelCache,
    *,
    attn_implementation: Attention,
    on: torch.device | None,
) -> PreTrainedModel | PeftModel:
    if policy not in model_cache:
        return load_as(
            policy,
            ModelCache(),
            dtype=torch.float32,
            attn_implementation=attn_implementation,
            on=on,
        )
    model = model_cache.take(policy)
    assert model is not None
    model_cache.keep(policy, model)
    temporary = ModelCache()
    temporary.keep(policy, copy.deepcopy(restore_model(model)))
    return load_as(
        policy,
        temporary,
        dtype=torch.float32,
        attn_implementation=attn_implementation,
        on=on,
    )


def _initialize(name: str, parameter: torch.nn.Parameter) -> None:
    with torch.no_grad():
        if parameter.dim() > 1:
            parameter.normal_(std=1 / math.sqrt(parameter.shape[-1] + 1))
        elif name.endswith("bias"):
            parameter.zero_()
