"""docs/annotating.md documents all metrics, and its recipes run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, get_args

import yaml

from aligner.api import Recipe
from aligner_annotate.options import AnnotateOptions, Keep, ParaphraseOptions, annotate_metrics

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "annotating.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_documents_every_metric_and_every_kind_of_rows() -> None:
    metrics: set[str] = set()
    for options in ({"above": 0.0}, {"keep": "best", "above": 0.0}):
        annotate = AnnotateOptions(prompts="x", score="SOURCE", **options)
        metrics |= set(annotate_metrics(annotate))
    tables = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    names = [name for cell in tables for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(names) == sorted([*metrics, "keep", *get_args(Keep)])


def test_the_steps_on_the_page_are_valid() -> None:
    types: dict[str, Any] = {"annotate": AnnotateOptions, "paraphrase": ParaphraseOptions}
    made = 0
    for text in RECIPES:
        for step in yaml.safe_load(text)["steps"]:
            options = {k: v for k, v in step.items() if k not in ("stage", "as", "before")}
            if step["stage"] in types:
                types[step["stage"]](**options)
                made += 1
    assert made == 5


def test_the_chains_of_the_page_run(tmp_path: Path) -> None:
    """Two rounds on the quickstart, everything as small as it can be."""
    shutil.copy(ROOT / "recipes" / "quickstart-dpo.yaml", tmp_path)
    for text in RECIPES:
        if found := re.match(r"# recipes/(\S+)\n", text):
            (tmp_path / found[1]).write_text(text)
    small = [
        "pretrain.max_steps=3", "pretrain.data.options.rows=400", "sft.max_steps=3",
        "sft.data.options.rows=40", "reward.max_steps=3", "reward.data.options.rows=40",
        "reward.eval_data.options.rows=20", "reward.gate.eval_accuracy='>= 0'",
        "evaluate.prompts.options.rows=2", "evaluate.max_new_tokens=4",
    ]  # fmt: skip
    for name, step in (("annotate", "dpo"), ("again", "dpo-2")):
        small += [f"{name}.prompts.options.rows=4", f"{name}.samples_per_prompt=2"]
        small += [f"{name}.max_new_tokens=4", f"{name}.ended_only=false", f"{step}.max_steps=3"]
    recipe = Recipe.load(tmp_path / "two-rounds.yaml", set=small)
    result = recipe.run(runs=tmp_path / "runs", show=False)
    assert list(result.steps)[-5:] == ["annotate", "dpo", "again", "dpo-2", "evaluate"]
    assert result["again"].metrics["rows"] >= 1
