"""The sft stage: supervised fine-tuning on conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aligner import PlanContext
from aligner.kit.declare import OfflineStage
from aligner_sft.options import SFTOptions

if TYPE_CHECKING:
    from aligner.kit.work import LanguageMethod


class SFT(OfflineStage[SFTOptions]):
    """Fine-tune the policy on the assistant's turns of conversations."""

    name = "sft"
    reads = "conversation"

    def summary(self, context: PlanContext) -> str:
        trained = {"everything": "all tokens", "last": "last turns"}
        tokens = trained.get(self.options.train_on, "assistant turns")
        packing = ", packed" if self.options.packing else ""
        return f"train on {tokens}, learning rate {self.options.learning_rate:g}{packing}"

    def method(self) -> LanguageMethod[SFTOptions]:
        from aligner.kit.work import LanguageMethod

        return LanguageMethod(
            self.options,
            train_on=self.options.train_on,
            pack_to=self.options.max_length if self.options.packing else None,
            loss_type=self.options.loss_type,
        )
