"""Snapshot of the process state that a stage has to restore."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy
import torch


@dataclass(frozen=True)
class Process:
    """Snapshot of the shared state of the process."""

    facts: dict[str, Any]

    @classmethod
    def now(cls) -> Process:
        """Take a snapshot, without side effects."""
        return cls(
            {
                "environment": dict(os.environ),
                "current folder": os.getcwd(),
                "module search path": tuple(sys.path),
                "Python's random state": _digest(repr(random.getstate()).encode()),
                "NumPy's random state": _digest(_bytes_of(numpy.random.get_state(legacy=False))),
                "torch's random state": _digest(torch.get_rng_state().numpy().tobytes()),
                "torch's default dtype": torch.get_default_dtype(),
                "torch's number of threads": torch.get_num_threads(),
                "torch's gradient mode": torch.is_grad_enabled(),
                "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
                "level of the root logger": logging.getLogger().level,
                "handlers of the root logger": tuple(map(id, logging.getLogger().handlers)),
            }
        )

    def difference(self, other: Process, *, but: Collection[str] = ()) -> list[str]:
        """Return the names of the parts that differ in `other`."""
        return [
            name
            for name, value in self.facts.items()
            if name not in but and value != other.facts[name]
        ]


def _bytes_of(state: Any) -> bytes:
    inner = state["state"]
    return bytes(inner["key"].tobytes()) + str(inner["pos"]).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
