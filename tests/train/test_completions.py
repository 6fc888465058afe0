"""Batches of completions are those of TRL's collators."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference as DPOCollator
from trl.trainer.reward_trainer import DataCollatorForPreference as RewardCollator

from aligner.train.completions import CompletionCollator

SIDES = ("chosen", "rejected")


def random_pairs(count: int, **more: float) -> list[dict[str, Any]]:
    draw = random.Random(count)

    def ids(most: int) -> list[int]:
        return [draw.randrange(5, 99) for _ in range(draw.randint(1, most))]

    return [
        {"prompt_ids": ids(7), "chosen_ids": ids(5), "rejected_ids": ids(9)} | more
        for _ in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_of_pairs_is_that_of_trls_dpo(count: int) -> None:
    rows = random_pairs(count, ref_chosen_logps=-1.5, ref_rejected_logps=-2.5)
    ours = CompletionCollator(SIDES, pad=3)(rows)
    theirs = DPOCollator(pad_token_id=3)(rows)
    for name in ("input_ids", "attention_mask", "completion_mask"):
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name
    both = torch.cat([theirs["ref_chosen_logps"], theirs["ref_rejected_logps"]])
    assert torch.equal(ours["ref_logps"], both)


def test_a_batch_of_pairs_with_margins_is_that_of_trls_reward_model() -> None:
    rows = random_pairs(5, margin=0.25)
    ours = CompletionCollator(SIDES, pad=0)(rows)
    joined = [
        {f"{side}_ids": row["prompt_ids"] + row[f"{side}_ids"] for side in SIDES}
        | {"margin": row["margin"]}
        for row in rows
    ]
    theirs = RewardCollator(pad_token_id=0)(joined)
    for name in ("input_ids", "attention_mask", "margin"):
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name


def test_columns_of_numbers_are_kept_and_rows_may_have_one_completion() -> None:
    rows = [{"prompt_ids": [1], "completion_ids": [2, 3], "label": on} for on in (True, False)]
    batch = CompletionCollator(("completion",), pad=0)(rows)
    assert batch["label"].tolist() == [True, False]
    assert batch["input_ids"].tolist() == [[1, 2, 3], [1, 2, 3]]
    assert "ref_logps" not in batch
