"""Small instruction tasks that any machine can make and judge, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner_tasks.judge import TaskJudge
from aligner_tasks.source import TaskSource


@aligner.hookimpl
def aligner_data_sources() -> Iterable[type[aligner.DataSource]]:
    yield TaskSource


@aligner.hookimpl
def aligner_reward_functions() -> Iterable[type[aligner.RewardFunction]]:
    yield TaskJudge
