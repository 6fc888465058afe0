"""Group relative policy optimization (GRPO)."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_grpo.stage import GRPO


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield GRPO
