"""Language modeling on plain text, as an aligner plugin."""

import aligner
from aligner_pretrain.stage import Pretrain


@aligner.hookimpl
def aligner_stages() -> list[type[Pretrain]]:
    return [Pretrain]
