"""Collate language modeling rows into batches, for training and for previews."""

from __future__ import annotations

from typing import Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from aligner.models.padding import pad_id
from aligner.train.packing import labeled


class LanguageCollator(DataCollatorForLanguageModeling):
    """TRL's collator for rows with `labels`, or with a mask of `trained` tokens in place of them."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [
            row if "labels" in row else labeled(row["input_ids"], row["trained"])
            for row in examples
        ]
        batch: dict[str, Any] = super().torch_call(rows)
        return batch


def language_collator(tokenizer: Any, *, packed: bool) -> LanguageCollator:
    """Return the collator of rows of `input_ids` and `labels` or `trained`.

    Args:
        tokenizer: Its pad token fills rows up on the right.
        packed: Rows are bins of several: a batch is one long row without padding, in which positions
            start anew with each of them, and the first token of each is not trained.
    """
    return LanguageCollator(pad_token_id=pad_id(tokenizer), padding_free=packed)
