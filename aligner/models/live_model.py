"""Use a model in memory as the start of a chain, and return trained models to the user."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from aligner.errors import ModelError
from aligner.models.files import TOKENIZER_FILES, check_config, hash_folder, weight_files
from aligner.models.load import load_as, silence_transformers
from aligner.models.resolve import local_folder, resolve
from aligner.models.restore import freeze, restore_model
from aligner.run.durable import flush_folder, flush_tree
from aligner.state import Artifact, ModelCache


class LiveModel:
    """Model and tokenizer in memory that a chain starts from.

    Checks only read the model. The first run takes it over, and a training step changes the object in
    place. The chain starts from the weights that the first check saved.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Raises ModelError for anything but a whole transformers model and a fast tokenizer."""
        if isinstance(model, PeftModel):
            raise ModelError(
                "a model in memory with adapters cannot start a chain",
                hint="pass `model.merge_and_unload()`",
            )
        if not isinstance(model, PreTrainedModel):
            raise ModelError(f"a {type(model).__name__} is not a transformers model")
        if getattr(model.config, "quantization_config", None) is not None:
            raise ModelError(
                "a quantized model in memory cannot start a chain",
                hint="name its folder or hub id, and set `quantize` in the step",
            )
        if any(parameter.is_meta for parameter in model.parameters()):
            raise ModelError("the model has no weights: it is on the meta device")
        if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
            raise ModelError(f"a {type(tokenizer).__name__} is not a fast transformers tokenizer")
        self._model: PreTrainedModel | None = model
        self._tokenizer = tokenizer
        self._folder: Path | None = None

    def saved(self, folder: Path) -> Path:
        """Save model and tokenizer once, below `folder` under their hash, and return their folder."""
        if self._folder is not None and self._folder.is_dir():
            return self._folder
        if self._model is None:
            raise ModelError(f"{self._folder}, where the live model was written down, is gone")
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            with silence_transformers():
                self._model.save_pretrained(beside)
            self._save_tokenizer(beside)
            words = hash_folder(beside, only=TOKENIZER_FILES)
            final = folder / f"{hash_folder(beside)[:12]}-{words[:4]}"
            flush_tree(beside)
            beside.chmod(0o755)
            with suppress(OSError):  # it is there already, or another process was quicker
                os.rename(beside, final)
            flush_folder(folder)
            if not final.is_dir():
                raise ModelError(f"the live model cannot be written down in {final}")
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        self._folder = final
        return final

    def _save_tokenizer(self, folder: Path) -> None:
        # What the last call left on it is no property of the tokenizer.
        self._tokenizer.backend_tokenizer.no_padding()
        self._tokenizer.backend_tokenizer.no_truncation()
        self._tokenizer.save_pretrained(folder)

    def lend(self, model_cache: ModelCache) -> None:
        """Hand the model over, the first time; later runs load what was written down.

        Raises:
            ModelError: The model is not what was written down any more.
        """
        assert self._folder is not None, "a model is checked before it is lent"
        model, self._model = self._model, None
        if model is None:
            return
        if changed := _difference(model, self._folder):
            self._model = model
            raise ModelError(
                f"the live model has changed since it was checked: {changed}",
                hint="make a new Recipe of it",
            )
        model_cache.keep(resolve(str(self._folder)), model)


def load_for_user(artifact: Artifact, model_cache: ModelCache, *, reward: bool = False) -> Any:
    """Return the model of an artifact to the user, from the cache or from disk.

    It is in eval mode, frozen and restored, and stays in `model_cache`.
    """
    model = model_cache.take(artifact)
    if model is None:
        config = check_config(local_folder(artifact))
        dtype = getattr(torch, config.get("dtype") or "float32")
        model = load_as(artifact, ModelCache(), dtype=dtype, reward=reward)
    restore_model(model)
    freeze(model)
    model_cache.keep(artifact, model)
    return model.eval()


def _difference(model: PreTrainedModel, folder: Path) -> str:
    """Return the name of the first tensor that differs from the files, or an empty string."""
    tensors = model.state_dict()
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                if name not in tensors or not torch.equal(
                    file.get_tensor(name), tensors[name].cpu()
                ):
                    return str(name)
    return ""
