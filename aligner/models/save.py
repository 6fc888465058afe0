"""Write a model as an ordinary folder, read it back, and leave the live one for the next step."""

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
from aligner.models.adapters import TOP, stack_of
from aligner.models.clean import base_model, clean
from aligner.models.files import (
    artifact_hash,
    hash_adapters,
    hash_folder,
    is_model_file,
    tensor_headers,
    weight_files,
)
from aligner.models.load import quiet
from aligner.models.skeleton import skeleton
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
    """Clean `model`, write it, prove that what lies there is the model, and keep it live.

    Whole weights go into `folder`. Of a model with adapters only the topmost goes there; what it
    belongs on is not copied, unless it is saved nowhere yet: then into `folder/base`.

    Args:
        model: Trained. It stays in memory, for the step that takes the artifact.
        folder: Made if it is not there.
        live: Where the model is kept.
        base: `Prepared.base`.
        made_by: The step.

    Raises:
        StageError: a weight is not finite, or what was written does not read back the same.
    """
    clean(model)
    folder.mkdir(parents=True, exist_ok=True)

    def write() -> Artifact:
        for path in folder.iterdir():
            if is_model_file(path.name):
                path.unlink()  # of an interrupted attempt: a shard too many would be read as ours
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
        assert len(stack_of(model)) == 1, "new weights below more than one adapter"
        base = _save_base(model, folder / "base", made_by=made_by)
    assert len(base.adapters) + 1 == len(stack_of(model)), (
        "the base is not what the adapter lies on"
    )
    state = get_peft_model_state_dict(model, adapter_name=TOP, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = folder / "adapter_config.json"
    model.peft_config[TOP].save_pretrained(str(folder))
    raw = json.loads(settings.read_text(encoding="utf-8"))
    below = str(path_when_finished(Path(base.path))) if base.local else base.path
    raw |= {"base_model_name_or_path": below, "revision": base.revision, "inference_mode": True}
    # peft writes sets of names in any order, or twice, and equal adapters must be equal files.
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
    """Save the weights below the adapters, under the names they have without adapters."""
    whole = base_model(model)
    state = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in whole.state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }
    asked = set(skeleton(whole.config, like=type(whole)).state_dict())
    assert set(state) == asked, f"names below the adapters differ: {set(state) ^ asked}"
    _save_whole(whole, folder, state)
    return Artifact(path=str(folder), hash=hash_folder(folder), made_by=made_by)


def _save_whole(
    model: PreTrainedModel, folder: Path, state: Mapping[str, torch.Tensor] | None = None
) -> None:
    with quiet():
        model.save_pretrained(folder, state_dict=None if state is None else dict(state))
    _share_mode(folder, like=folder / "config.json")
    files = weight_files(folder)
    tensors = state or model.state_dict()
    if all(name in tensors for path in files for name in tensor_headers(path)):
        _read_back(tensors, files)
    else:
        _load_back(model, tensors, folder)


def _read_back(tensors: Mapping[str, torch.Tensor], files: tuple[Path, ...]) -> None:
    """Compare every tensor with what the files hold; a tied one is there under one of its names."""
    found: set[str] = set()
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                written = file.get_tensor(name)
                if name not in tensors or not torch.equal(written, tensors[name].cpu()):
                    raise _not_saved(
                        f"{name} in {path} is not what the model holds", tensors.get(name)
                    )
                found.add(name)
    places = {tensors[name].data_ptr() for name in found}
    lost = [n for n, t in tensors.items() if n not in found and t.data_ptr() not in places]
    if lost:
        raise _not_saved(f"{lost[0]} was not written to {files[0].parent}", None)


def _load_back(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """As `_read_back`, for architectures whose files name and cut their weights in another way."""
    with quiet():
        loaded = type(model).from_pretrained(
            folder, dtype=model.dtype, use_safetensors=True, local_files_only=True
        )
    for name, tensor in loaded.state_dict().items():
        if name not in tensors or not torch.equal(tensor, tensors[name].cpu()):
            raise _not_saved(f"{name} in {folder} is not what the model holds", tensors.get(name))


def _not_saved(what: str, tensor: torch.Tensor | None) -> StageError:
    if tensor is not None and not bool(torch.isfinite(tensor).all()):
        return StageError(
            f"the trained weights are not finite: {what.split()[0]}",
            hint="the training diverged; use a lower learning_rate",
        )
    return StageError(
        f"the model was not saved as it is: {what}", hint="is the disk full or failing?"
    )


def _share_mode(folder: Path, *, like: Path) -> None:
    # safetensors writes files that only their owner may read, whatever the umask says.
    mode = stat.S_IMODE(like.stat().st_mode)
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
