"""Pairs as the rows and the batches that the trainer gets."""

from __future__ import annotations

from typing import Any

from trl.trainer.dpo_trainer import DataCollatorForPreference

from aligner.data.store.token_rows import PreferenceTokens
from aligner.models.padding import pad_id


def row(pair: PreferenceTokens) -> dict[str, Any]:
    """What the collator reads of a pair, and its length, by which batches are made."""
    return {
        "prompt_ids": pair.prompt_ids,
        "chosen_ids": pair.chosen_ids,
        "rejected_ids": pair.rejected_ids,
        "length": len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)),
    }


def collator(tokenizer: Any) -> DataCollatorForPreference:
    """Makes a batch of rows: B chosen sequences, then B rejected, filled up on the right."""
    return DataCollatorForPreference(pad_token_id=pad_id(tokenizer))
