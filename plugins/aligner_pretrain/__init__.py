"""Language-model training on plain text, as an aligner plugin."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_pretrain.stage import Pretrain


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield Pretrain
