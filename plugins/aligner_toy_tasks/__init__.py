"""Small instruction tasks with a programmatic judge, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner_toy_tasks.judge import ToyTasksJudge
from aligner_toy_tasks.source import ToyTasks


@aligner.hookimpl
def aligner_data_sources() -> Iterable[type[aligner.DataSource]]:
    yield ToyTasks


@aligner.hookimpl
def aligner_reward_functions() -> Iterable[type[aligner.RewardFunction]]:
    yield ToyTasksJudge
