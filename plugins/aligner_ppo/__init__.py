"""Proximal policy optimization (PPO)."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_ppo.stage import PPO


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield PPO
