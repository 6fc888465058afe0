"""Reward models: a policy's weights under a head that gives one metric."""

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
from aligner.models.clean import base_model, clean, snapshot_settings
from aligner.models.load import load_as, load_model, place
from aligner.models.options import Attention, ModelOptions, Precision
from aligner.models.policy import Prepared, prepare_policy
from aligner.models.skeleton import model_class
from aligner.state import Artifact, ModelCache


def load_reward(
    artifact: Artifact,
    model_cache: ModelCache,
    *,
    precision: Precision = "auto",
    attn_implementation: Attention = "auto",
    on: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """The reward model behind `artifact`, head and all, frozen; see `load_model`.

    Raises:
        ModelError: its files hold no head, or one that gives more than one metric.
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
    """A reward model taken apart, so that its score can be read at any position."""

    trunk: Any
    """A transformers model without its head: embeddings and layers."""
    head: nn.Module
    """Gives one metric for each hidden state."""
    active: Callable[[], AbstractContextManager[Any]] = nullcontext
    """While this is entered the two compute as the reward model; trunks may be shared."""


def parts_of(model: PreTrainedModel | PeftModel) -> RewardParts:
    """The parts of a reward model that shares nothing.

    Raises:
        ModelError: it has no head that is known here.
    """
    whole = base_model(model)
    return RewardParts(trunk=whole.base_model, head=head_of(whole))


def head_of(model: Any) -> nn.Module:
    """The head of a sequence-classification model that gives one metric.

    Raises:
        ModelError: it has none that can be read by itself.
    """
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Module):
        raise ModelError(
            f"{type(model).__name__} has no head called `score`, which is what is read",
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
    """A reward model with the policy's weights and a new head, in fp32; the policy is not touched.

    Adapters on the policy are merged into the copy. The head's weights are drawn from a normal
    distribution of variance 1/(width + 1) (Stiennon et al. 2020, appendix B.1).

    Args:
        policy: Where the weights come from: the chain's policy, or any other base.
        live: Where it may be; it is there again afterwards.
        seed: Of the head.
        pad: Id of the padding token: the last token that is not padding is the one that is scored.
        attn_implementation: Kernel that computes attention.
        on: Where to put it; None takes `device()`.
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
                _draw(name, parameter)
    place(model, source.device)
    snapshot_settings(model)
    clean(model)
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
) -> Prepared:
    """`make_reward`, prepared to be trained as `options` say; the policy's adapters are merged."""
    if options.quantize is not None:
        raise ModelError(
            f"`quantize: {options.quantize}` takes saved weights, and a new reward model is not saved yet",
            hint="leave `quantize` out of this step",
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
    lent = ModelCache()
    lent.keep(policy, copy.deepcopy(clean(model)))
    return load_as(
        policy,
        lent,
        dtype=torch.float32,
        attn_implementation=attn_implementation,
        on=on,
    )


def _draw(name: str, parameter: torch.nn.Parameter) -> None:
    with torch.no_grad():
        if parameter.dim() > 1:
            parameter.normal_(std=1 / math.sqrt(parameter.shape[-1] + 1))
        elif name.endswith("bias"):
            parameter.zero_()
