"""Save a model in transformers' format, verify the files, and keep the model in memory."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from aligner.errors import StageError
from aligner.models.adapters import TOP, adapter_stack
from aligner.models.files import (
    artifact_hash,
    hash_adapters,
    hash_folder,
    is_model_file,
    tensor_headers,
    weight_files,
)
from aligner.models.load import silence_transformers
from aligner.models.meta_model import meta_model
from aligner.models.restore import base_model, restore_model
from aligner.run.processes import write_once
from aligner.run.store import path_when_finished
from aligner.state import Artifact, ModelCache


def save_model(
    model: PreTrainedModel | PeftModel,
    folder: Path,
    *,
    model_cache: ModelCache,
    base: Artifact | None = None,
    made_by: str = "model",
) -> Artifact:
    """Restore `model`, save it, verify the files, and put it into the cache.

    Full weights are written to `folder`. Of a model with adapters only the topmost is written; its base
    is not copied, unless it is new: then it is written to `folder/base`.

    Args:
        model: Trained model. It stays in memory for the step that loads the artifact.
        folder: Folder to write; created if missing.
        model_cache: Keeps the model in memory.
        base: `PreparedModel.base`.
        made_by: Name of the step.

    Raises:
        StageError: a weight is not finite, or the files differ from the model.
    """
    restore_model(model)
    folder.mkdir(parents=True, exist_ok=True)

    def write() -> Artifact:
        for path in folder.iterdir():
            if is_model_file(path.name):
                path.unlink()  # of an interrupted save: an additional shard would be read, too
        if isinstance(model, PeftModel):
            return _save_adapter(model, folder, base=base, made_by=made_by)
        _save_whole(model, folder)
        return Artifact(path=str(folder), hash=hash_folder(folder), made_by=made_by)

    artifact = write_once(folder, write)
    model_cache.keep(artifact, model)
    return artifact


def _save_adapter(
    model: PeftModel, folder: Path, *, base: Artifact | None, made_by: str
) -> Artifact:
    if base is None:
        assert len(adapter_stack(model)) == 1, "new weights below more than one adapter"
        base = _save_base(model, folder / "base", made_by=made_by)
    assert len(base.adapters) + 1 == len(adapter_stack(model)), "the base does not fit the adapter"
    state = get_peft_model_state_dict(model, adapter_name=TOP, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = folder / "adapter_config.json"
    model.peft_config[TOP].save_pretrained(str(folder))
    raw = json.loads(settings.read_text(encoding="utf-8"))
    below = str(path_when_finished(Path(base.path))) if base.local else base.path
    raw |= {"base_model_name_or_path": below, "revision": base.revision, "inference_mode": True}
    # peft writes sets of names in any order, and equal adapters must be equal files.
    raw |= {key: sorted(set(value)) for key, value in raw.items() if _names(value)}
    settings.write_text(json.dumps(raw, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _share_mode(folder, like=settings)
    _read_back(tensors, (folder / "adapter_model.safetensors",))
    return Artifact(
        path=base.path,
        revision=base.revision,
        adapters=(*base.adapters, str(folder)),
        hash=hash_adapters(base.hash or artifact_hash(base), (str(folder),)),
        made_by=made_by,
    )


def _save_base(model: PeftModel, folder: Path, *, made_by: str) -> Artifact:
    """Save the weights below the adapters, with their names in the model without adapters."""
    whole = base_model(model)
    state = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in whole.state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }
    expected = set(meta_model(whole.config, like=type(whole)).state_dict())
    assert set(state) == expected, f"names below the adapters differ: {set(state) ^ expected}"
    _save_whole(whole, folder, state)
    return Artifact(path=str(folder), hash=hash_folder(folder), made_by=made_by)


def _save_whole(
    model: PreTrainedModel, folder: Path, state: Mapping[str, torch.Tensor] | None = None
) -> None:
    with silence_transformers():
        model.save_pretrained(folder, state_dict=None if state is None else dict(state))
    _share_mode(folder, like=folder / "config.json")
    files = weight_files(folder)
    tensors = state or model.state_dict()
    if all(name in tensors for path in files for name in tensor_headers(path)):
        _read_back(tensors, files)
    else:
        _load_back(model, tensors, folder)


def _read_back(tensors: Mapping[str, torch.Tensor], files: tuple[Path, ...]) -> None:
    """Compare every tensor with the files; a tied tensor is stored under one of its names."""
    found: set[str] = set()
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                written = file.get_tensor(name)
                if name not in tensors or not torch.equal(written, tensors[name].cpu()):
                    raise _not_saved(f"{name} in {path} differs from the model", tensors.get(name))
                found.add(name)
    places = {tensors[name].data_ptr() for name in found}
    lost = [n for n, t in tensors.items() if n not in found and t.data_ptr() not in places]
    if lost:
        raise _not_saved(f"{lost[0]} was not written to {files[0].parent}", None)


def _load_back(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Compare as `_read_back` does, for architectures whose files name or split weights differently."""
    with silence_transformers():
        loaded = type(model).from_pretrained(
            folder, dtype=model.dtype, use_safetensors=True, local_files_only=True
        )
    for name, tensor in loaded.state_dict().items():
        if name not in tensors or not torch.equal(tensor, tensors[name].cpu()):
            raise _not_saved(f"{name} in {folder} differs from the model", tensors.get(name))


def _not_saved(what: str, tensor: torch.Tensor | None) -> StageError:
    if tensor is not None and not bool(torch.isfinite(tensor).all()):
        return StageError(
            f"the trained weights are not finite: {what.split()[0]}",
            hint="the training diverged; use a lower learning_rate",
        )
    return StageError(
        f"the saved model differs from the model in memory: {what}",
        hint="check the disk",
    )


def _share_mode(folder: Path, *, like: Path) -> None:
    # safetensors ignores the umask: only the owner could read its files.
    mode = stat.S_IMODE(like.stat().st_mode)
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
