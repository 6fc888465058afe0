from __future__ import annotations

import math
from typing import Any

import pytest

LORA = "adapter: {method: lora, r: 2, lora_alpha: 4}"
TREATED = {
    "full": {"full": [], "lora": [LORA]},
    "lora": {
        "full": ["incoming: merge"],
        "lora continue": [],
        "lora merge": ["incoming: merge", LORA],
        "lora stack": ["incoming: stack", LORA],
    },
}


@pytest.mark.parametrize(
    ("first", "second"), [(a, b) for a, treatments in TREATED.items() for b in treatments]
)
def test_the_first_dpo_loss_of_any_chain_is_ln_2(
    first: str, second: str, chains: Any, losses: Any
) -> None:
    """Rafailov 2023, eq. 7: where policy = reference both ratios are 1, and -log sigmoid(0) = ln 2."""
    outcome = chains.run(
        chains.step("sft", "talks.jsonl", *([LORA] if first == "lora" else [])),
        chains.step("dpo", "pairs.jsonl", *TREATED[first][second]),
    )
    points = losses(outcome, "dpo")
    assert points[0] == pytest.approx(math.log(2), abs=1e-5)
    assert points[-1] < math.log(2) - 1e-4


def test_a_second_dpo_holds_to_what_the_first_one_left(chains: Any, losses: Any) -> None:
    dpo = chains.step("dpo", "pairs.jsonl")
    outcome = chains.run(dpo, chains.step("dpo", "pairs.jsonl", "as: again"))
    assert losses(outcome, "dpo")[-1] < math.log(2) - 1e-3
    assert losses(outcome, "again")[0] == pytest.approx(math.log(2), abs=1e-5)
