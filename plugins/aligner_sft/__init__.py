"""Supervised fine-tuning on conversations, as an aligner plugin."""

import aligner
from aligner_sft.stage import SFT


@aligner.hookimpl
def aligner_stages() -> list[type[SFT]]:
    return [SFT]
