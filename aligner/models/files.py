"""Read, hash and check the files of model folders, without torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aligner.errors import ModelError
from aligner.state import Artifact

READ = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
"""Patterns of the files that are read from a model folder or downloaded from a hub."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")

# Versions and paths that libraries write: equal models differ in them.
_NOISE = frozenset(
    {"_name_or_path", "transformers_version", "base_model_name_or_path", "revision", "peft_version"}
)
_CODE_KEYS = frozenset({"auto_map", "custom_generate", "custom_pipelines", "trust_remote_code"})
_KERNEL_KEYS = ("attn_implementation", "experts_implementation")


def hash_folder(folder: Path, *, only: Iterable[str] | None = None) -> str:
    """Compute the SHA-256 of the files of `folder` that are read, without recorded paths and versions.

    Args:
        folder: Folder of a model, an adapter or a tokenizer; subfolders are ignored.
        only: Names of the files to hash, if they exist; None hashes weights and configs but no
            tokenizer.
    """
    names = set(only) if only is not None else None
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        wanted = is_model_file(path.name) if names is None else path.name in names
        if wanted:
            digest.update(f"{path.name}\0{_hash_file(path)}\n".encode())
    return digest.hexdigest()


def hash_adapters(base: str, folders: Iterable[str]) -> str:
    """Compute the hash of a stack of adapters from the hash of its base, lowest adapter first."""
    for folder in folders:
        base = hashlib.sha256(f"{base}\n{hash_folder(Path(folder))}".encode()).hexdigest()
    return base


def hash_hub(name: str, commit: str, *, part: str = "model") -> str:
    """Compute the hash of a hub model from its commit."""
    return hashlib.sha256(f"hub\0{name}\0{commit}\0{part}".encode()).hexdigest()


def artifact_hash(artifact: Artifact) -> str:
    """Compute the content hash of `artifact` from its files."""
    if artifact.local:
        base = hash_folder(Path(artifact.path))
    else:
        base = hash_hub(artifact.path, artifact.revision or "main")
    return hash_adapters(base, artifact.adapters)


def verify(artifact: Artifact) -> None:
    """Verify the files of `artifact` against its hash.

    Raises:
        ModelError: a file was changed, deleted or damaged since it was saved.
    """
    for folder in (*((artifact.path,) if artifact.revision is None else ()), *artifact.adapters):
        if not os.path.isdir(folder):
            raise ModelError(f"the folder {folder} of {artifact.made_by!r} is gone")
    if artifact.hash and artifact_hash(artifact) != artifact.hash:
        folder = artifact.adapters[-1] if artifact.adapters else artifact.path
        raise ModelError(
            f"the files of {artifact.made_by!r} in {folder} have changed since they were saved",
            hint="a file was changed or damaged; run the step again with --fresh",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: it is not one, or it names code to run or a kernel to download.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ModelError(f"{path} is not a JSON object")
    for key, value in _walk(raw):
        if key in _CODE_KEYS and value:
            raise ModelError(
                f"{path} refers to code of the model ({key})",
                hint="aligner does not run code of a model; use an architecture that transformers supports",
            )
        if key.removeprefix("_").removesuffix("_internal") in _KERNEL_KEYS and "/" in str(value):
            raise ModelError(
                f"{path} names a kernel to download ({key}: {value})",
                hint="remove that line; the option `attn_implementation` of a step sets the kernel",
            )
    return raw


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Check that `folder` can be loaded safely, and return its config.

    Raises:
        ModelError: no config, no safetensors weights, code, or files outside the folder.
    """
    if not (folder / "config.json").is_file():
        hint = (
            "a model folder contains config.json and *.safetensors, as save_pretrained writes them"
        )
        if (folder / "adapter_config.json").is_file():
            hint = "it contains an adapter: name its base model, and this folder under `adapters`"
        raise ModelError(f"{folder} contains no config.json", hint=hint)
    config = check_config(folder)
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} contains both full weights and an adapter",
            hint="move them to separate folders",
        )
    for path in weight_files(folder):
        tensor_headers(path)
    return config


def check_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`, and check it and related files for code, kernels and other weights."""
    for name in ("generation_config.json", "tokenizer_config.json", "processor_config.json"):
        if (folder / name).is_file():
            read_json(folder / name)
    config = read_json(folder / "config.json")
    for key in ("quantization_config", "transformers_weights"):
        if config.get(key):
            raise ModelError(
                f"{folder / 'config.json'} has a `{key}`, which aligner does not support",
                hint="start from unquantized weights, with `quantize: nf4` in the step",
            )
    return config


def check_adapter_folder(folder: Path) -> dict[str, Any]:
    """Check that `folder` contains an adapter in safetensors, and return its config."""
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} contains no adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ModelError(
            f"{folder} contains no adapter_model.safetensors{_pickles(folder)}",
            hint="save the adapter again with a current version of peft",
        )
    _inside(weights, folder)
    tensor_headers(weights)
    return read_json(folder / "adapter_config.json")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of the model, all of them inside `folder`."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        _inside(single, folder)
        return (single,)
    if not index.is_file():
        raise ModelError(
            f"{folder} contains no weights: model.safetensors is missing{_pickles(folder)}",
            hint="aligner reads safetensors only; load the model with transformers and save it again",
        )
    files = read_json(index).get("weight_map")
    if not isinstance(files, Mapping) or not files:
        raise ModelError(f"{index} has no weight_map")
    paths = tuple(folder / str(name) for name in sorted(set(map(str, files.values()))))
    for path in paths:
        if path.suffix != ".safetensors":
            raise ModelError(f"{index} names {path.name!r}, which is not safetensors")
        _inside(path, folder)
        if not path.is_file():
            raise ModelError(f"{index} names {path.name!r}, which is missing")
    return paths


def tensor_headers(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read names, data types (as safetensors names them: F32, BF16, …) and shapes of a safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, 100_000_000):
            raise ModelError(f"{path} is damaged: its header is longer than the file")
        try:
            raw = json.loads(file.read(length))
            tensors = {n: (str(t["dtype"]), tuple(t["shape"])) for n, t in _tensors(raw)}
            end = max((int(t["data_offsets"][1]) for _, t in _tensors(raw)), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise ModelError(f"{path} is damaged: its header is not readable") from None
    if end + length + 8 != size:
        raise ModelError(
            f"{path} is damaged: it has {size} bytes, but its header describes {end + length + 8}",
            hint="copy or download it again",
        )
    return tensors


def stored_dtypes(folder: Path) -> frozenset[str]:
    """Return the data types of the floating-point weights of a model, as safetensors names them."""
    headers = (tensor_headers(path) for path in weight_files(folder))
    return frozenset(dtype for header in headers for dtype, _ in header.values() if "F" in dtype)


def is_model_file(name: str) -> bool:
    """Return True if a file of this name is part of a model or adapter, and not of a tokenizer."""
    if name.endswith((".safetensors", ".safetensors.index.json")):
        return True
    return name in {"config.json", "generation_config.json", "adapter_config.json"}


def _tensors(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, tensor) for name, tensor in raw.items() if name != "__metadata__")


def _hash_file(path: Path) -> str:
    if path.suffix == ".json" and not path.name.endswith(".index.json"):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            raw = None
        if isinstance(raw, dict):
            kept = {key: value for key, value in raw.items() if key not in _NOISE}
            return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(path: Path, folder: Path) -> None:
    # A hub cache links files to blobs beside the snapshots; no other link may leave the folder.
    home = folder.resolve()
    roots = [home]
    if re.fullmatch(r"[0-9a-f]{40}", home.name) and home.parent.name == "snapshots":
        roots.append(home.parent.parent / "blobs")
    if not any(path.resolve().is_relative_to(root) for root in roots):
        raise ModelError(
            f"{folder} links to weights outside of it: {path.name!r} is {path.resolve()}",
            hint="copy the weights into the folder if you trust them",
        )


def _pickles(folder: Path) -> str:
    found = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    return f", and {', '.join(found)} may run code when loaded" if found else ""


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)
