"""The evaluate stage: losses, completions, scores, win rates and KL estimates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_evaluate.stage import Evaluate


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield Evaluate
