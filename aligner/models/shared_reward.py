"""Reward models as an adapter and a head on the policy's own frozen weights: a shared backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from aligner.models.files import check_config, weight_files
from aligner.models.meta_model import meta_model, model_class, parse_config
from aligner.models.model_info import ModelInfo, PlannedTraining
from aligner.models.options import Quantize
from aligner.models.policy import PreparedModel
from aligner.models.reference import Reference
from aligner.models.resolve import local_folder
from aligner.models.restore import base_model, settings_of
from aligner.models.reward import RewardParts, reward_head
from aligner.models.saved_adapters import attach_inactive, read_adapter
from aligner.state import Artifact, ModelCache

REWARD = "aligner_reward"
"""The reward model's adapter, while it lies on a policy."""
_HEAD = "score"
_HEADS = frozenset({"score", "classifier"})
"""What peft says of every adapter that scores, whichever of them the model has."""


def can_share_backbone(
    training: PlannedTraining, reward: ModelInfo, *, quantize: Quantize | None
) -> bool:
    """Return True if the reward model and the policy will have the same frozen weights.

    Args:
        training: Planned training of the policy.
        reward: The reward model.
        quantize: Quantization of the policy; the reward model was trained on unquantized weights.
    """
    return (
        training.adapter_plan in ("fresh", "continue", "stack")
        and quantize is None
        and len(reward.adapters) == 1
        and _replaces_its_head_alone(reward.adapters[0])
        and reward.backbone == training.after.backbone
    )


def shared_reward(
    prepared: PreparedModel, artifact: Artifact, model_cache: ModelCache
) -> RewardParts | None:
    """Load a reward model onto the policy's frozen weights, or return None if it has others.

    Its adapter is put beside the policy's, inactive and never trained; `clean` takes it off. What of
    the reward model is live is let go of, so that its memory is free.

    Args:
        prepared: The policy.
        artifact: The reward model.
        live: Where it may be.

    Raises:
        ModelError: the adapter is damaged.
    """
    policy = prepared.model
    if not isinstance(policy, PeftModel) or len(artifact.adapters) != 1:
        return None
    [folder] = artifact.adapters
    config = read_adapter(Path(folder))
    settings = settings_of(policy)
    rounded = settings is not None and settings.quantize is not None
    if rounded or not _replaces_its_head_alone(config):
        return None
    whole = base_model(policy)
    if not _same_weights(whole, local_folder(artifact)):
        return None
    model_cache.take(artifact)
    head = _head(artifact, like=whole)
    attach_inactive(policy, folder, REWARD, without=_HEADS)
    active = Reference(policy, adapters=(REWARD,)).active
    return RewardParts(trunk=whole.base_model, head=head, active=active)


def _replaces_its_head_alone(config: LoraConfig) -> bool:
    return _HEAD in (whole := {*(config.modules_to_save or ())}) and whole <= _HEADS


def _same_weights(whole: PreTrainedModel, folder: Path) -> bool:
    """Return True if the files contain the weights below the adapters of `whole`, except the head."""
    below = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in whole.state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }
    prefix, seen = f"{whole.base_model_prefix}.", set()
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                if not name.startswith(prefix):
                    continue
                own = below.get(name)
                if own is None or not torch.equal(file.get_tensor(name).to(own), own):
                    return False
                seen.add(name)
    return seen == {name for name in below if name.startswith(prefix)}


def _head(artifact: Artifact, *, like: PreTrainedModel) -> nn.Module:
    """Load the trained head from the adapter, in the precision of `like`."""
    config = parse_config(check_config(local_folder(artifact)))
    shape = meta_model(config, like=model_class(config, reward=True))
    head = reward_head(shape).to_empty(device=like.device)
    saved = load_file(Path(artifact.adapters[0]) / "adapter_model.safetensors")
    marked = {name.rpartition(f".{_HEAD}.") for name in saved if f".{_HEAD}." in name}
    head.load_state_dict({last: saved[f"{before}.{_HEAD}.{last}"] for before, _, last in marked})
    return head.to(device=like.device, dtype=like.dtype).requires_grad_(False).eval()
