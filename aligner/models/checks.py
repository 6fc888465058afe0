"""Whether an adapter fits a model, and a saved model is what it is taken for, before weights are loaded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from aligner.errors import AlignerError, ModelError, did_you_mean
from aligner.models.adapters import TOP, attach_config, copied
from aligner.models.files import tensor_headers, weight_files
from aligner.models.options import Adapter
from aligner.models.policy import stackable
from aligner.models.skeleton import config_from

_TAKES_ADAPTERS = (nn.Linear, nn.Embedding, Conv1D)
_HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")


def adapter_errors(shape: PreTrainedModel, adapter: Adapter) -> list[AlignerError]:
    """Whether `adapter` fits the model: its targets are there, and none is the head."""
    modules = dict(shape.named_modules())
    last = {name.rsplit(".", 1)[-1] for name in modules}
    head = shape.get_output_embeddings()  # type: ignore[no-untyped-call]
    heads = {name.rsplit(".", 1)[-1] for name, module in modules.items() if module is head and head}
    errors: list[AlignerError] = []
    targets = () if adapter.target_modules == "all-linear" else adapter.target_modules
    for target in (*targets, *adapter.modules_to_save):
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            what = f"the model has no module {target!r} for the adapter"
            errors.append(ModelError(what, hint=did_you_mean(target, last)))
    for target in targets:
        kinds = {type(m) for n, m in modules.items() if n == target or n.endswith(f".{target}")}
        odd = [kind.__name__ for kind in kinds if not issubclass(kind, _TAKES_ADAPTERS)]
        if odd:
            what = f"an adapter on {target!r} is not possible: it is a {odd[0]}"
            hint = "name linear modules, or leave `targets` out"
            errors.append(ModelError(what, hint=hint))
        if target.rsplit(".", 1)[-1] in heads:
            what = f"an adapter on the head {target!r} cannot be trained by preference and chunked losses"
            hint = "leave it out of `targets`, or train it whole under `modules_to_save`"
            errors.append(ModelError(what, hint=hint))
    if getattr(shape.config, "tie_word_embeddings", False) and head is not None:
        embedding = shape.get_input_embeddings()
        ends = heads | {n.rsplit(".", 1)[-1] for n, m in modules.items() if m is embedding}
        for name in (*adapter.modules_to_save, *targets):
            if name.rsplit(".", 1)[-1] in ends - (heads if name in targets else set()):
                what = f"{name!r} shares its weights with the other end of the model"
                errors.append(ModelError(what, hint="leave it out, or train the whole model"))
    return errors


def stack_errors(came: Sequence[LoraConfig], new: Adapter, *, reward: bool) -> list[AlignerError]:
    """Whether the adapters that come in and a new one can share a forward pass."""
    if reward:
        what = "the head of a reward model lies in its adapter, which cannot be one of a stack"
        hint = "use `incoming: merge`, or leave `adapter` out to train the incoming one further"
        return [ModelError(what, hint=hint)]
    last = (new.method == "dora", new.modules_to_save)
    kinds = [(bool(one.use_dora), tuple(one.modules_to_save or ())) for one in came]
    errors: list[AlignerError] = []
    for dora, whole in (*kinds, last):
        try:
            stackable(dora, whole)
        except ModelError as error:
            errors.append(error)
    return errors


def check_head(folder: Path, config: Mapping[str, Any], adapters: Sequence[LoraConfig]) -> None:
    """Refuse what would be loaded as a reward model and has no head of its own."""
    named = {name for path in weight_files(folder) for name in tensor_headers(path)}
    if not any(name.endswith(_HEADS) for name in named):
        raise ModelError(
            f"{folder} holds no reward head (score.weight)",
            hint="it would be drawn at random; train a reward model first",
        )
    if adapters and not all(one.modules_to_save for one in adapters):
        raise ModelError(f"the adapter on the reward model {folder} holds no head of its own")
    labels = config_from(config).num_labels
    if labels != 1:
        raise ModelError(
            f"{folder} is no reward model: its head gives {labels} metrics, not one",
            hint="train a reward model first, or name one with num_labels 1",
        )


def check_shapes(shape: PreTrainedModel, config: LoraConfig, folder: Path) -> None:
    """Refuse a saved adapter whose weights are not those that `shape` would give it; adds it there."""
    hint = "it was trained on another model, or with another vocabulary"
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = attach_config(shape, copied(config), TOP)
    except ValueError as error:
        what = f"the adapter in {folder} does not fit this model: {error}"
        raise ModelError(what, hint=hint) from error
    asked = get_peft_model_state_dict(model, adapter_name=TOP, save_embedding_layers=False)
    found = tensor_headers(folder / "adapter_model.safetensors")
    for name in sorted({*asked, *found}):
        if name not in found or name not in asked:
            what = f"a foreign {name}" if name in found else f"no {name}"
            what = f"the adapter in {folder} does not fit this model: it has {what}"
            raise ModelError(what, hint=hint)
        if tuple(asked[name].shape) != found[name][1]:
            shapes = f"{list(found[name][1])}, and the model wants {list(asked[name].shape)}"
            what = f"the adapter in {folder} does not fit this model: {name} is {shapes}"
            raise ModelError(what, hint=hint)
