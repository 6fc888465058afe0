"""Collator of rows of a language model, for training and previews."""

from __future__ import annotations

from typing import Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from aligner.models.padding import pad_id


def language_collator(tokenizer: Any, *, packed: bool) -> DataCollatorForLanguageModeling:
    """Makes a batch of rows of `input_ids` and `labels`.

    Args:
        tokenizer: Whose pad token fills rows up on the right.
        packed: Rows are bins of several: a batch is one long row without padding, in which positions
            begin anew with each of them, and the first token of each is not trained.
    """
    return DataCollatorForLanguageModeling(pad_token_id=pad_id(tokenizer), padding_free=packed)
