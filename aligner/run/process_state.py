"""Seed a step from the recipe, and restore random state and environment after it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def seeded_process(*, seed: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and torch for the body, and restore them after it.

    Only imported libraries are seeded: importing torch for this would be slow. A stage that imports
    it later seeds again with `aligner.train.seed`.
    """
    environment = dict(os.environ)
    python = random.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    array_state: Any = numpy.random.get_state() if numpy else None
    tensor_state: Any = torch.get_rng_state() if torch else None
    device_states: Any = (
        torch.cuda.get_rng_state_all() if torch and torch.cuda.is_available() else None
    )
    random.seed(seed)
    if numpy:
        numpy.random.seed(seed % 2**32)
    if torch:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        if numpy:
            numpy.random.set_state(array_state)
        if torch:
            torch.set_rng_state(tensor_state)
            if device_states is not None:
                torch.cuda.set_rng_state_all(device_states)
        _restore(environment)


def _restore(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
