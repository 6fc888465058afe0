"""What docs/evaluating.md says is what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from aligner_evaluate.stage import METRICS, EvaluateOptions, metrics_of

PAGE = (Path(__file__).parents[3] / "docs" / "evaluating.md").read_text(encoding="utf-8")


def test_the_page_tells_of_every_figure_and_of_no_other() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    everything: dict[str, Any] = dict.fromkeys(("prompts", "conversations", "text", "pairs"), "x")
    config = EvaluateOptions(
        **everything, judge="j", against="STEP", kl_to="STEP", metrics=list(METRICS)
    )
    assert sorted(told) == sorted(metrics_of(config, reward=True))


def test_the_steps_on_the_page_are_valid_and_so_are_their_gates() -> None:
    recipes = [yaml.safe_load(one) for one in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    steps = [step for one in recipes for step in one["steps"] if step["stage"] == "evaluate"]
    assert len(steps) == 2
    for step in steps:
        gate = step.pop("gate", {})
        step.pop("stage")
        assert gate.keys() <= set(metrics_of(EvaluateOptions(**step), reward=True))
