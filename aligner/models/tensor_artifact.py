"""Artifacts of a few named tensors, for slots whose content is not a whole model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from aligner.models.files import hash_folder
from aligner.run.durable import write_text
from aligner.run.processes import write_once
from aligner.state import Artifact


def save_tensors(
    folder: Path, name: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> Artifact:
    """Write `name.safetensors`, and `about` as `name.json`; the first process writes for all."""

    def write() -> Artifact:
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / f"{name}.safetensors"
        save_file(dict(tensors), weights, metadata={"format": "pt"})
        weights.chmod(0o644)
        write_text(folder / f"{name}.json", json.dumps(about, indent=2) + "\n")
        return Artifact(path=str(folder), hash=hash_folder(folder))

    return write_once(folder, write)


def read_about(artifact: Artifact, name: str) -> dict[str, Any] | None:
    """Return what `save_tensors` was given as `about`; None if it did not write this artifact."""
    path = Path(artifact.path) / f"{name}.json"
    if not path.is_file():
        return None
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return about


def load_tensors(artifact: Artifact, name: str) -> dict[str, Tensor]:
    """Load the tensors that `save_tensors` wrote."""
    tensors: dict[str, Tensor] = load_file(Path(artifact.path) / f"{name}.safetensors")
    return tensors
