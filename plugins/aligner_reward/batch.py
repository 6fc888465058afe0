"""Pairs as the rows and the batches that the trainer gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trl.trainer.reward_trainer import DataCollatorForPreference

from aligner.data.chat import PreferenceTokens
from aligner.models.padding import pad_id
from aligner_reward.stage import RewardOptions


def rows(pairs: Iterable[PreferenceTokens], config: RewardOptions) -> list[dict[str, Any]]:
    """What the collator reads of pairs, and their lengths, by which batches are made."""
    made = [
        {
            "chosen_ids": [*pair.prompt_ids, *pair.chosen_ids],
            "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids],
            "length": len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)),
            "margin": pair.margin,
        }
        for pair in pairs
    ]
    if config.margin and any(row["margin"] is not None for row in made):
        return [{**row, "margin": row["margin"] or 0.0} for row in made]
    return [{name: value for name, value in row.items() if name != "margin"} for row in made]


def collator(tokenizer: Any) -> DataCollatorForPreference:
    """Makes a batch of rows: B chosen sequences, then B rejected, filled up on the right."""
    return DataCollatorForPreference(pad_token_id=pad_id(tokenizer))
