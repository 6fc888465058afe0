"""Resolve model names to folders or hub commits with their content hash, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aligner.errors import ModelError
from aligner.models.files import (
    READ,
    TOKENIZER_FILES,
    check_adapter_folder,
    check_config,
    check_model_folder,
    hash_adapters,
    hash_folder,
    hash_hub,
    weight_files,
)
from aligner.state import Artifact


def resolve(path: str, revision: str | None = None, *, adapters: Sequence[str] = ()) -> Artifact:
    """Resolve a folder or hub id to a model with its content hash.

    Raises:
        ModelError: it is missing, has no config or no safetensors weights, or contains code.
    """
    for adapter in adapters:
        check_adapter_folder(Path(adapter))
    if _is_folder(path):
        if revision is not None:
            raise ModelError(f"{path} is a folder, so it has no revision {revision!r}")
        folder = Path(path).resolve()
        check_model_folder(folder)
        base, place, commit = hash_folder(folder), str(folder), None
    else:
        commit = _commit(path, revision)
        local_folder(Artifact(path=path, revision=commit), weights=False)
        base, place = hash_hub(path, commit), path
    stack = tuple(str(Path(adapter).resolve()) for adapter in adapters)
    return Artifact(path=place, revision=commit, adapters=stack, hash=hash_adapters(base, stack))


def resolve_tokenizer(path: str, revision: str | None = None) -> Artifact:
    """Resolve a folder or hub id to a tokenizer with its content hash."""
    if not _is_folder(path):
        commit = _commit(path, revision)
        return Artifact(path=path, revision=commit, hash=hash_hub(path, commit, part="tokenizer"))
    folder = Path(path).resolve()
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise ModelError(
            f"{folder} contains no tokenizer",
            hint="a tokenizer folder contains tokenizer.json, as save_pretrained writes it",
        )
    return Artifact(path=str(folder), hash=hash_folder(folder, only=TOKENIZER_FILES))


def local_folder(artifact: Artifact, *, weights: bool = True) -> Path:
    """Return the local folder of the full weights of `artifact`; download it if needed.

    Args:
        artifact: The model; its adapters are local folders.
        weights: False if the config is enough.
    """
    if artifact.local:
        folder = Path(artifact.path)
    elif os.path.isabs(artifact.path):
        raise ModelError(f"the folder {artifact.path} of {artifact.made_by!r} is gone")
    else:
        folder = _snapshot(artifact.path, artifact.revision, weights=weights)
    if weights:
        check_model_folder(folder)
    elif not (folder / "config.json").is_file():
        raise ModelError(f"{artifact.path} contains no config.json")
    else:
        check_config(folder)
    return folder


def _is_folder(path: str) -> bool:
    if os.path.isdir(path):
        return True
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or os.path.exists(path):
        raise ModelError(
            f"there is no model folder {path}",
            hint="give a folder, or a hub id as org/name",
        )
    return False


def _commit(name: str, revision: str | None) -> str:
    """Return the commit of a hub model's `revision`, from the cache or from the hub."""
    from huggingface_hub import HfApi, constants, snapshot_download  # only hub ids need it
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True)).name
    except HFValidationError:
        raise ModelError(
            f"{name!r} is neither a model folder nor a hub id",
            hint="give a folder, or a hub id as org/name",
        ) from None
    except LocalEntryNotFoundError:
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                f"{name!r} is neither a folder nor in the local cache, and HF_HUB_OFFLINE is set",
                hint="give a folder, or unset HF_HUB_OFFLINE",
            ) from None
    try:
        found = HfApi().model_info(name, revision=revision)
    except Exception as error:  # the hub's client also raises errors of its HTTP library
        raise ModelError(
            f"the hub has no model {name!r}, or cannot be reached: {type(error).__name__}",
            hint="check the name, the revision, your network, and `hf auth login` for a gated model",
        ) from None
    return str(found.sha)


def _snapshot(name: str, revision: str | None, *, weights: bool) -> Path:
    from huggingface_hub import snapshot_download  # only hub ids need it
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = list(READ) if weights else [pattern for pattern in READ if "tensors" not in pattern]
    try:
        cached = Path(snapshot_download(name, revision=revision, local_files_only=True))
        if _complete(cached, weights=weights):
            return cached
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # as above
        raise ModelError(
            f"cannot fetch {name!r}: {type(error).__name__}",
            hint="check your network, or give a folder",
        ) from error


def _complete(folder: Path, *, weights: bool) -> bool:
    """Return True if a cached snapshot is complete; it may contain a tokenizer only."""
    if not (folder / "config.json").is_file():
        return False
    try:
        return not weights or bool(weight_files(folder))
    except ModelError:
        return False
