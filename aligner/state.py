"""Model state: the artifact in each slot, passed from step to step without the models themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

Slot: TypeAlias = str
"""Name of a slot: a built-in one, or one that a plugin declares: `aligner_classify.head`."""

BUILT_IN_SLOTS: Mapping[Slot, str] = {
    "tokenizer": "The tokenizer with its chat template and special tokens.",
    "policy": "The model that is post-trained.",
    "reference": "The model that the policy is compared with; empty: the policy at the step's start.",
    "reward": "The reward model.",
    "value": "The value model.",
    "data": "The rows that a step wrote last: a folder with `rows.jsonl`.",
}
"""Slots that every chain has, each with its description."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A folder or hub id with its content hash and the step that wrote it."""

    path: str
    """Folder of full weights (or of a tokenizer, or of rows), or a hub id."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None for a folder."""
    adapters: tuple[str, ...] = ()
    """Folders of the adapters to apply to `path`, the innermost first."""
    hash: str = ""
    """SHA-256 of the content, adapters included; equal hashes mean equal models."""
    made_by: str = "model"
    """The step that wrote it, or `model` for the initial model of the recipe."""

    @property
    def local(self) -> bool:
        return os.path.isdir(self.path)


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """Artifacts by slot. A stage receives one state and returns another; a state never changes.

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
    policy: Artifact | None = None
    reference: Artifact | None = None
    """None means the policy at the start of the step."""
    reward: Artifact | None = None
    value: Artifact | None = None
    data: Artifact | None = None
    declared: Mapping[Slot, Artifact] = field(default_factory=dict)
    """Artifacts in slots that plugins declare."""

    @classmethod
    def of(cls, slots: Mapping[Slot, Artifact | None]) -> ModelState:
        """Return a state with these slots, built-in and declared ones."""
        built_in: dict[str, Any] = {s: a for s, a in slots.items() if s in BUILT_IN_SLOTS}
        declared = {s: a for s, a in slots.items() if s not in BUILT_IN_SLOTS and a is not None}
        return cls(**built_in, declared=declared)

    def find(self, slot: Slot) -> Artifact | None:
        """Return the artifact in `slot`, or None if the slot is empty."""
        if slot not in BUILT_IN_SLOTS:
            return self.declared.get(slot)
        artifact = getattr(self, slot)
        assert artifact is None or isinstance(artifact, Artifact)
        return artifact

    def get(self, slot: Slot) -> Artifact:
        """Return the artifact in `slot`, which has to be filled."""
        artifact = self.find(slot)
        assert artifact is not None, f"slot {slot!r} is empty"
        return artifact

    def filled(self) -> frozenset[Slot]:
        """Return the names of the slots that are not empty."""
        return frozenset(s for s in (*BUILT_IN_SLOTS, *self.declared) if self.find(s) is not None)

    def put(self, step: str, **slots: Artifact) -> ModelState:
        """Return a copy with `slots` filled, each marked as made by `step`."""
        made = {slot: replace(artifact, made_by=step) for slot, artifact in slots.items()}
        return ModelState.of({slot: self.get(slot) for slot in self.filled()} | made)

    def changed_since(self, before: ModelState) -> frozenset[Slot]:
        """Return the slots whose artifact differs from the one in `before`."""
        slots = self.filled() | before.filled()
        return frozenset(slot for slot in slots if self.find(slot) != before.find(slot))

    def to_json(self, *, relative_to: Path) -> str:
        """Return the state as JSON; local paths become relative, so that runs can be moved."""
        slots = {slot: self.find(slot) for slot in (*BUILT_IN_SLOTS, *sorted(self.declared))}
        raw = {
            s: None if a is None else _relative(asdict(a), relative_to) for s, a in slots.items()
        }
        return json.dumps(raw, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, relative_to: Path) -> ModelState:
        """Read the result of `to_json`; `relative_to` is the folder of the file now."""
        raw: dict[str, dict[str, Any] | None] = json.loads(text)
        return cls.of({s: None if a is None else _absolute(a, relative_to) for s, a in raw.items()})


def _relative(raw: dict[str, Any], relative_to: Path) -> dict[str, Any]:
    def shorten(path: str) -> str:
        return os.path.relpath(path, relative_to) if os.path.isabs(path) else path

    return raw | {"path": shorten(raw["path"]), "adapters": [shorten(p) for p in raw["adapters"]]}


def _absolute(raw: Mapping[str, Any], relative_to: Path) -> Artifact:
    # A hub id ("org/name") and a relative folder look alike: a path that we made relative begins with
    # a dot or exists beside the manifest.
    def lengthen(path: str) -> str:
        absolute = os.path.normpath(relative_to / path)
        return absolute if path.startswith(".") or os.path.isdir(absolute) else path

    adapters = tuple(lengthen(p) for p in raw["adapters"])
    return Artifact(**{**raw, "path": lengthen(raw["path"]), "adapters": adapters})


class ModelCache:
    """Objects in memory by content hash of their artifacts, so that nothing is loaded twice.

    Ownership moves: `take` removes the object from the cache, because a stage trains it in place and
    it then differs from its hash.
    """

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}

    def keep(self, artifact: Artifact, loaded: Any) -> None:
        """Add the object that was loaded from, or saved as, `artifact`."""
        assert artifact.hash, "only an artifact with a content hash can be kept"
        self._objects[artifact.hash] = loaded

    def take(self, artifact: Artifact) -> Any | None:
        """Remove and return the object of `artifact`; None if the cache does not have it."""
        return self._objects.pop(artifact.hash, None) if artifact.hash else None

    def keep_only(self, state: ModelState) -> None:
        """Drop every object that `state` does not contain, to free its memory."""
        hashes = {state.get(slot).hash for slot in state.filled()}
        self._objects = {key: loaded for key, loaded in self._objects.items() if key in hashes}

    def __contains__(self, artifact: Artifact) -> bool:
        return artifact.hash in self._objects
