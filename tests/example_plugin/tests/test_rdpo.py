"""The rdpo stage holds to aligner's contract, and its loss is Park's."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from aligner_brevity.formats import BETTER_WORSE
from aligner_brevity.loss import rdpo_loss
from aligner_brevity.options import RDPOOptions
from aligner_brevity.rewards import Brevity, BrevityOptions
from aligner_brevity.stage import RDPO

from aligner import Completion
from aligner.kit.work import PairLogps, TokenLogps
from aligner.testing import StageContract, preferences


class TestRDPO(StageContract):
    stage = RDPO
    options: ClassVar = {
        "data": "pairs.jsonl",
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 2,
    }
    files: ClassVar = {"pairs.jsonl": preferences()}


def test_a_longer_chosen_completion_has_a_smaller_loss() -> None:
    """Margin 0, 10 tokens longer, alpha 0.1: -log sigmoid(1) = 0.3133 instead of ln 2 = 0.6931."""
    zero = torch.zeros(1)
    pairs = PairLogps(
        chosen_logps_B=zero,
        rejected_logps_B=zero,
        ref_chosen_logps_B=zero,
        ref_rejected_logps_B=zero,
        chosen=TokenLogps(logps_NT=torch.zeros(1, 30), mask_NT=torch.ones(1, 30).bool()),
        rejected=TokenLogps(logps_NT=torch.zeros(1, 20), mask_NT=torch.ones(1, 20).bool()),
    )
    plain, longer = (RDPOOptions(data="pairs.jsonl", alpha=alpha) for alpha in (0.0, 0.1))
    assert rdpo_loss(pairs, plain).item() == pytest.approx(math.log(2))
    assert rdpo_loss(pairs, longer).item() == pytest.approx(0.31326, abs=1e-5)


def test_rows_of_ask_better_and_worse_are_pairs() -> None:
    row = {"ask": "why?", "better": "so", "worse": "because of that"}
    pair = BETTER_WORSE.convert(row)
    assert BETTER_WORSE.recognize([row])
    assert [pair.prompt[0], pair.chosen[0]["content"]] == [
        {"role": "user", "content": "why?"},
        "so",
    ]
    with pytest.raises(ValueError, match=r"^'worse' is not text$"):
        BETTER_WORSE.convert(row | {"worse": 3})


def test_words_beyond_the_limit_cost() -> None:
    answers = ["a b", "a b c", "a b c d", "a b c d e"]
    completions = [Completion(prompt=(), text=text) for text in answers]
    assert Brevity(BrevityOptions(words=2)).score(completions) == [1.0, 0.5, 0.0, 0.0]
    assert Brevity().score([Completion(prompt=(), text="a", ended=False)]) == [0.0]
