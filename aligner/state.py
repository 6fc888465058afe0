"""What one step hands the next: which artifact fills each slot, never the model itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

Slot = Literal["tokenizer", "policy", "reference", "reward", "value", "data"]
SLOTS: frozenset[Slot] = frozenset(get_args(Slot))


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One thing on disk or on the hub, and who made it."""

    path: str
    """Folder of whole weights (or of a tokenizer, or of rows), or a hub id."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None for a folder."""
    adapters: tuple[str, ...] = ()
    """Folders of the adapters that belong on top of `path`, the lowest first."""
    hash: str = ""
    """SHA-256 of the content, adapters included; equal hashes mean equal models."""
    made_by: str = "model"
    """The step that wrote it, or `model` for what the recipe began with."""

    @property
    def local(self) -> bool:
        return os.path.isdir(self.path)


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """The slots a chain fills. A stage gets one and returns another; none is ever changed.

    >>> state = ModelState(policy=Artifact(path="Qwen/Qwen2.5-0.5B"))
    >>> sorted(state.filled())
    ['policy']
    >>> after = state.put("sft", policy=Artifact(path="out/1-sft"))
    >>> after.policy.made_by, state.policy.made_by
    ('sft', 'model')
    >>> sorted(after.changed_since(state))
    ['policy']
    """

    tokenizer: Artifact | None = None
    """With its chat template and special tokens."""
    policy: Artifact | None = None
    """The model being aligned."""
    reference: Artifact | None = None
    """What a step holds the policy to; None means the policy as that step found it."""
    reward: Artifact | None = None
    value: Artifact | None = None
    data: Artifact | None = None
    """The rows that a step made last, for a later one to read: a folder with `rows.jsonl`."""

    def filled(self) -> frozenset[Slot]:
        return frozenset(slot for slot in SLOTS if getattr(self, slot) is not None)

    def get(self, slot: Slot) -> Artifact:
        """The artifact in `slot`, which the check has shown to be filled."""
        artifact = getattr(self, slot)
        assert isinstance(artifact, Artifact), f"slot {slot!r} is empty"
        return artifact

    def put(self, step: str, **slots: Artifact) -> ModelState:
        """Return a copy with `slots` filled, each marked as made by `step`."""
        filled: dict[str, Any] = {s: replace(a, made_by=step) for s, a in slots.items()}
        return replace(self, **filled)

    def changed_since(self, before: ModelState) -> frozenset[Slot]:
        return frozenset(slot for slot in SLOTS if getattr(self, slot) != getattr(before, slot))

    def to_json(self, *, beside: Path) -> str:
        """The manifest as JSON, local paths relative to the folder `beside`, so runs can be moved."""
        slots = {f.name: getattr(self, f.name) for f in fields(self)}
        raw = {s: None if a is None else _relative(asdict(a), beside) for s, a in slots.items()}
        return json.dumps(raw, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, beside: Path) -> ModelState:
        raw: dict[str, dict[str, Any] | None] = json.loads(text)
        return cls(**{s: None if a is None else _absolute(a, beside) for s, a in raw.items()})


def _relative(raw: dict[str, Any], beside: Path) -> dict[str, Any]:
    def shorten(path: str) -> str:
        return os.path.relpath(path, beside) if os.path.isabs(path) else path

    return raw | {"path": shorten(raw["path"]), "adapters": [shorten(p) for p in raw["adapters"]]}


def _absolute(raw: Mapping[str, Any], beside: Path) -> Artifact:
    # A hub id ("org/name") and a relative folder look alike: what we wrote relative begins with a dot
    # or exists beside the manifest.
    def lengthen(path: str) -> str:
        there = os.path.normpath(beside / path)
        return there if path.startswith(".") or os.path.isdir(there) else path

    adapters = tuple(lengthen(p) for p in raw["adapters"])
    return Artifact(**{**raw, "path": lengthen(raw["path"]), "adapters": adapters})


class ModelCache:
    """The very objects behind artifacts, by content hash: what makes a reload needless.

    Ownership moves: `take` hands the object over and forgets it, because a stage trains it in place
    and it then no longer is what the hash says.
    """

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}

    def keep(self, artifact: Artifact, thing: Any) -> None:
        assert artifact.hash, "only an artifact with a content hash can be kept"
        self._objects[artifact.hash] = thing

    def take(self, artifact: Artifact) -> Any | None:
        return self._objects.pop(artifact.hash, None) if artifact.hash else None

    def keep_only(self, state: ModelState) -> None:
        """Forget whatever `state` does not hold, so that its memory is free."""
        held = {getattr(state, slot).hash for slot in state.filled()}
        self._objects = {key: thing for key, thing in self._objects.items() if key in held}

    def __contains__(self, artifact: Artifact) -> bool:
        return artifact.hash in self._objects


assert {f.name for f in fields(ModelState)} == SLOTS
