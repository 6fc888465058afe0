"""Supervised fine-tuning on conversations, as an aligner plugin."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_sft.stage import SFT


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield SFT
