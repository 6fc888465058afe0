"""The pretrain stage: language modeling on plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aligner import PlanContext, Slot
from aligner.kit.declare import OfflineStage
from aligner_pretrain.options import PretrainOptions

if TYPE_CHECKING:
    from aligner_pretrain.trainer import PretrainMethod


class Pretrain(OfflineStage[PretrainOptions]):
    """Train a language model on plain text: an existing one, or a new one with its own tokenizer."""

    name = "pretrain"
    reads = "text"

    @property
    def requires(self) -> frozenset[Slot]:
        return frozenset() if self.options.fresh else frozenset({"policy", "tokenizer"})

    @property
    def provides(self) -> frozenset[Slot]:
        return frozenset({"policy", "tokenizer"} if self.options.fresh else {"policy"})

    def summary(self, context: PlanContext) -> str:
        start = "from random weights" if self.options.fresh else "further"
        return f"train on plain text {start}, learning rate {self.options.learning_rate:g}"

    def method(self) -> PretrainMethod:
        from aligner_pretrain.trainer import PretrainMethod

        stream_to = self.options.max_length if self.options.stream else None
        return PretrainMethod(self.options, stream_to=stream_to)
