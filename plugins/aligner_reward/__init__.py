"""Reward models, as an aligner plugin."""

import aligner
from aligner_reward.stage import Reward


@aligner.hookimpl
def aligner_stages() -> list[type[Reward]]:
    return [Reward]
