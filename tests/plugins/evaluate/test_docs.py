"""docs/evaluating.md documents all metrics, and its recipes are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from aligner_evaluate.options import TEXT_METRICS, EvaluateOptions, metric_names

PAGE = (Path(__file__).parents[3] / "docs" / "evaluating.md").read_text(encoding="utf-8")


def test_the_page_documents_exactly_the_metrics_there_are() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    everything: dict[str, Any] = dict.fromkeys(("prompts", "conversations", "text", "pairs"), "x")
    options = EvaluateOptions(
        **everything, judge="j", against="STEP", kl_to="STEP", metrics=list(TEXT_METRICS)
    )
    assert sorted(documented) == sorted(metric_names(options, reward=True))


def test_the_steps_on_the_page_are_valid_and_so_are_their_gates() -> None:
    recipes = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    steps = [step for recipe in recipes for step in recipe["steps"] if step["stage"] == "evaluate"]
    assert len(steps) == 2
    for step in steps:
        gate = step.pop("gate", {})
        step.pop("stage")
        assert gate.keys() <= set(metric_names(EvaluateOptions(**step), reward=True))
