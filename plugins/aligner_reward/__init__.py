"""Reward model training on preference pairs, as an aligner plugin."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_reward.stage import Reward


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield Reward
