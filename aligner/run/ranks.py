"""Which of several processes this is, as the launcher says in the environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from aligner.errors import StageError


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """This process's number among all, 0 when it is alone."""
    return int(environment.get("RANK", "0"))


def world(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes walk the chain together."""
    return int(environment.get("WORLD_SIZE", "1"))


def wait_until(done: Callable[[], bool], *, what: str, seconds: float, every: float = 0.05) -> None:
    """Wait for what the first process is doing; StageError when it takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise StageError(
                f"process {rank()} waited {seconds:.0f} s for {what}",
                hint="see what the first process says; all processes must share the run folder",
            )
        time.sleep(every)
