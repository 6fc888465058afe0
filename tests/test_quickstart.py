"""The quickstarts from nothing, as the README runs them: minutes each, so run by hand before a release."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(recipe: str, seed: int, runs: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Metrics of every step, and the largest memory of the process in GiB."""
    command = [sys.executable, "-m", "aligner.cli", "run", str(ROOT / "recipes" / f"{recipe}.yaml")]
    done = subprocess.run(
        [*command, "--set", f"seed={seed}", "--name", f"seed-{seed}", "--runs", str(runs)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = {}
    for step in sorted((runs / f"seed-{seed}" / "steps").iterdir()):
        name = step.name.split("-", 1)[1]
        metrics[name] = json.loads((step / "step.json").read_text())["metrics"]
    return metrics, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("recipe", "margin"), [("quickstart-dpo", 0.1), ("quickstart", 0.1), ("quickstart-grpo", 0.02)]
)
def test_a_quickstart_learns_at_every_stage_by_an_independent_judge(
    recipe: str, margin: float, seed: int, tmp_path: Path
) -> None:
    """SFT clearly above base, DPO and PPO clearly above SFT, GRPO above SFT, and the reward model right
    on new pairs.
    """
    metrics, gibibytes = run(recipe, seed, tmp_path)
    last = metrics["evaluate"]
    assert last["judge_sft"] > last["judge_chat"] + 0.2
    assert last["judge"] > last["judge_sft"] + margin
    assert last["win_rate_vs_sft"] > 0.55
    assert metrics["reward"]["eval_accuracy"] >= 0.9
    assert last["kl_to_sft"] < 50
    assert last["ended"] > 0.9
    assert gibibytes < 2
