"""RLOO, as the page on writing a plugin defines it with the kit alone, is a whole online stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from page_code import blocks

from aligner.rl.loop import train
from aligner.testing import prompts, run_stage
from aligner.testing.rl import SMALL, step_context, tiny_llama, tiny_rl

LENGTH = {"name": "length", "options": {"maximum": 1, "margin": 8}}
PAGE = (Path(__file__).parents[2] / "docs" / "writing-a-plugin.md").read_text("utf-8")


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    [code] = [code for code in blocks(PAGE) if "class RLOO(" in code]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, "writing-a-plugin.md", "exec"), names)
    return names


def test_it_finds_the_best_arm(page, tmp_path) -> None:
    """One token per response, sixteen words: w9 pays 1, w4 pays 0.5, the others nothing."""
    arms = [[1, 5], [1, 6]]
    options = page["RLOOOptions"](
        **SMALL
        | {
            "iterations": 30,
            "prompts": 2,
            "num_generations": 16,
            "max_new_tokens": 1,
            "beta": 0.0,
            "learning_rate": 3e-3,
            "guards": {"unending": None, "entropy": None},
        }
    )
    rl = tiny_rl(
        page["RLOOAlgorithm"](options),
        step_context(tmp_path),
        model=tiny_llama(vocab=16, layers=1, width=16),
        table={"w9": 1.0, "w4": 0.5},
        prompts=arms,
    )
    train(rl, step_context(tmp_path / "step"))
    with torch.no_grad():
        masses = rl.actor.policy(torch.tensor(arms)).logits[:, -1].softmax(-1)
    assert bool((masses[:, 9] > 0.8).all()), masses[:, 9]


def test_it_runs_in_a_chain_with_a_plan_and_the_metrics_it_declares(page, tmp_path) -> None:
    options = SMALL | {"data": "prompts.jsonl", "rewards": LENGTH, "hold_out": 0.3}
    stage = page["RLOO"](page["RLOO"].Options(**options))
    result = run_stage(stage, tmp_path, files={"prompts.jsonl": prompts(8)})
    assert (result["rloo"].folder / "policy" / "model.safetensors").is_file()
    assert {"policy_loss", "kl", "eval_reward", "ratio"} <= result["rloo"].metrics.keys()
