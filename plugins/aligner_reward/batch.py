"""Pairs as the rows and the batches that the trainer gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trl.trainer.reward_trainer import DataCollatorForPreference

from aligner.data.store.token_rows import PreferenceTokens
from aligner.models.padding import pad_id
from aligner_reward.stage import RewardOptions


def rows(pairs: Sequence[PreferenceTokens], options: RewardOptions) -> Iterator[dict[str, Any]]:
    """What the collator reads of pairs, and their lengths, by which batches are made."""
    margins = options.margin and any(pair.margin is not None for pair in pairs)
    for pair in pairs:
        yield {
            "chosen_ids": [*pair.prompt_ids, *pair.chosen_ids],
            "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids],
            "length": len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)),
            **({"margin": float(pair.margin or 0)} if margins else {}),
        }


def collator(tokenizer: Any) -> DataCollatorForPreference:
    """Makes a batch of rows: B chosen sequences, then B rejected, filled up on the right."""
    return DataCollatorForPreference(pad_token_id=pad_id(tokenizer))
