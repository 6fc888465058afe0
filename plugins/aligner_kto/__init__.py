"""Kahneman-Tversky optimization (KTO), as an aligner plugin."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_kto.stage import KTO


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield KTO
