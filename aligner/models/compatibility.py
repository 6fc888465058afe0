"""Check adapters and saved reward models before weights are loaded."""

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
from aligner.models.adapters import TOP, attach_config, copy_config
from aligner.models.files import tensor_headers, weight_files
from aligner.models.meta_model import parse_config
from aligner.models.options import Adapter
from aligner.models.policy import check_stackable

_TAKES_ADAPTERS = (nn.Linear, nn.Embedding, Conv1D)
_HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")


def adapter_errors(shape: PreTrainedModel, adapter: Adapter) -> list[AlignerError]:
    """Find targets of `adapter` that the model lacks or that cannot be adapted."""
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
            what = f"an adapter cannot target {target!r}, which is a {odd[0]}"
            hint = "name linear modules, or remove `target_modules`"
            errors.append(ModelError(what, hint=hint))
        if target.rsplit(".", 1)[-1] in heads:
            what = f"an adapter on the LM head {target!r} does not work with preference and chunked losses"
            hint = "remove it from `target_modules`, or train it in full under `modules_to_save`"
            errors.append(ModelError(what, hint=hint))
    if getattr(shape.config, "tie_word_embeddings", False) and head is not None:
        embedding = shape.get_input_embeddings()
        ends = heads | {n.rsplit(".", 1)[-1] for n, m in modules.items() if m is embedding}
        for name in (*adapter.modules_to_save, *targets):
            if name.rsplit(".", 1)[-1] in ends - (heads if name in targets else set()):
                what = f"{name!r} shares its weights between embedding and LM head"
                errors.append(ModelError(what, hint="remove it, or train the full model"))
    return errors


def stack_errors(
    incoming: Sequence[LoraConfig], new: Adapter, *, reward: bool
) -> list[AlignerError]:
    """Find reasons why incoming adapters and a new one cannot be stacked."""
    if reward:
        what = "the adapter of a reward model contains its head, so it cannot be part of a stack"
        hint = "use `incoming: merge`, or remove `adapter` to train the incoming adapter further"
        return [ModelError(what, hint=hint)]
    last = (new.method == "dora", new.modules_to_save)
    kinds = [(bool(config.use_dora), tuple(config.modules_to_save or ())) for config in incoming]
    errors: list[AlignerError] = []
    for dora, whole in (*kinds, last):
        try:
            check_stackable(dora, whole)
        except ModelError as error:
            errors.append(error)
    return errors


def check_head(folder: Path, config: Mapping[str, Any], adapters: Sequence[LoraConfig]) -> None:
    """Check that saved weights contain a reward head with one output.

    Raises:
        ModelError: they do not.
    """
    named = {name for path in weight_files(folder) for name in tensor_headers(path)}
    if not any(name.endswith(_HEADS) for name in named):
        raise ModelError(
            f"{folder} contains no reward head (score.weight)",
            hint="the head would be random; train a reward model first",
        )
    if adapters and not all(adapter.modules_to_save for adapter in adapters):
        raise ModelError(f"the adapter of the reward model {folder} contains no head")
    labels = parse_config(config).num_labels
    if labels != 1:
        raise ModelError(
            f"{folder} is no reward model: its head has {labels} outputs, not one",
            hint="train a reward model first, or name one with num_labels 1",
        )


def check_shapes(shape: PreTrainedModel, config: LoraConfig, folder: Path) -> None:
    """Check that the tensors of a saved adapter fit the model; the adapter is added to `shape`.

    Raises:
        ModelError: a tensor is missing, unknown, or of another shape.
    """
    hint = "it was trained on another model, or with another vocabulary"
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = attach_config(shape, copy_config(config), TOP)
    except ValueError as error:
        what = f"the adapter in {folder} does not fit this model: {error}"
        raise ModelError(what, hint=hint) from error
    expected = get_peft_model_state_dict(model, adapter_name=TOP, save_embedding_layers=False)
    found = tensor_headers(folder / "adapter_model.safetensors")
    for name in sorted({*expected, *found}):
        if name not in found or name not in expected:
            what = f"a foreign {name}" if name in found else f"no {name}"
            what = f"the adapter in {folder} does not fit this model: it has {what}"
            raise ModelError(what, hint=hint)
        if tuple(expected[name].shape) != found[name][1]:
            shapes = f"{list(found[name][1])}, but the model needs {list(expected[name].shape)}"
            what = f"the adapter in {folder} does not fit this model: {name} is {shapes}"
            raise ModelError(what, hint=hint)
