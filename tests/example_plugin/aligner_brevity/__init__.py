"""Preference training that does not reward length, as an aligner plugin."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_brevity.formats import BETTER_WORSE
from aligner_brevity.rewards import Brevity
from aligner_brevity.stage import RDPO


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield RDPO


@aligner.hookimpl
def aligner_data_formats() -> Iterable[aligner.DataFormat]:
    yield BETTER_WORSE


@aligner.hookimpl
def aligner_reward_functions() -> Iterable[type[aligner.RewardFunction]]:
    yield Brevity
