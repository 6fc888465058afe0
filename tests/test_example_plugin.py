"""A foreign distribution's stage, data format and reward function work in a chain of ours."""

from __future__ import annotations

import json
from pathlib import Path

import aligner_brevity
import pytest
from aligner_brevity.options import RDPOOptions
from aligner_brevity.stage import RDPO

import aligner
from aligner import chain
from aligner.host import Host
from aligner.recipe import read_recipe
from aligner.testing import preferences, prompts, write_files, write_tiny

RECIPE = """\
model: tiny
seed: 7
steps:
  - stage: rdpo
    data: {path: pairs.jsonl, format: better-worse}
    alpha: 0.05
    max_steps: 3
    per_device_train_batch_size: 4
    learning_rate: 1e-2
    logging_steps: 1
  - stage: evaluate
    prompts: prompts.jsonl
    judge: {name: brevity, options: {words: 3}}
    against: model
    max_new_tokens: 4
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "tiny")
    pairs = [
        {"ask": row["prompt"], "better": row["chosen"], "worse": row["rejected"]}
        for row in preferences()
    ]
    write_files(tmp_path, {"pairs.jsonl": pairs, "prompts.jsonl": prompts(), "r.yaml": RECIPE})
    return tmp_path / "r.yaml"


def test_a_foreign_plugin_added_to_the_host_runs_in_a_chain(recipe: Path) -> None:
    host = Host.discover()
    host.add(aligner_brevity, name="brevity", source="aligner-brevity 0.1.0", version="0.1.0")
    checked = chain.check(chain.link(read_recipe(recipe), host), host)
    outcome = chain.run(checked, host, runs=recipe.parent / "runs")
    trained, measured = outcome.steps
    assert checked.plans[0].reference == "model's policy (frozen copy)"
    assert checked.plans[0].ledgers["data"]["formats"] == ("better-worse",)
    assert outcome.state.get("policy").made_by == "rdpo"
    assert trained.metrics["loss"] > 0
    assert 0 <= measured.metrics["judge"] <= 1
    assert 0 <= measured.metrics["win_rate_vs_model"] <= 1
    manifest = json.loads((trained.folder / "step.json").read_text())
    assert manifest["determinants"]["plugin"] == "brevity 0.1.0"


def test_a_recipe_in_python_takes_it_as_a_plugin(recipe: Path) -> None:
    made = aligner.Recipe.load(recipe, plugins=[aligner_brevity])
    checked = made.check(runs=recipe.parent / "runs")
    assert list(checked.plans) == ["rdpo", "evaluate"]


def test_the_first_loss_is_that_of_lengths_alone(tmp_path: Path) -> None:
    """All margins are 0 at first; with alpha 0 the loss is ln 2 whatever the lengths."""
    write_tiny(tmp_path / "tiny")
    write_files(tmp_path, {"pairs.jsonl": preferences()})
    options = RDPOOptions(
        data="pairs.jsonl",
        alpha=0,
        max_steps=1,
        per_device_train_batch_size=12,
        learning_rate=1e-2,
        logging_steps=1,
    )
    made = aligner.Recipe([RDPO(options)], model=tmp_path / "tiny", folder=tmp_path)
    result = made.run(runs=tmp_path / "runs", show=False)
    assert result["rdpo"].curves["loss"] == [(1, pytest.approx(0.693147, abs=1e-5))]
