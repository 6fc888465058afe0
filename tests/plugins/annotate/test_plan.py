"""Plans of steps that write rows, and the whole text of every error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.api import Recipe
from aligner.errors import AlignerError

from .conftest import rows

Make = Callable[..., Recipe]

ANNOTATE = """\
  - stage: annotate
    prompts: prompts.jsonl
    score: variety
    ended_only: false
    max_new_tokens: 6
"""
DPO = """\
  - stage: dpo
    data: {step: annotate}
    max_steps: 2
"""


def refused(recipe: Recipe, tmp_path: Path) -> str:
    with pytest.raises(AlignerError) as error:
        recipe.check(runs=tmp_path / "runs")
    return str(error.value).replace(f"{tmp_path}/", "")


def plans(recipe: Recipe, tmp_path: Path) -> Any:
    return recipe.check(runs=tmp_path / "runs").plans


def test_the_plan_states_the_largest_number_of_rows(recipe: Make, tmp_path: Path) -> None:
    plan = plans(recipe(ANNOTATE), tmp_path)["annotate"]
    assert plan.summary == (
        "complete each prompt 4 times at temperature 1, score by variety, "
        "keep the best and the worst as a pair"
    )
    assert plan.rows == 6
    assert plan.notes == ("24 completions, of which at most 6 preference pairs are made",)
    assert plan.ledgers["prompts"]["used"] == 6
    wide = ANNOTATE + "    keep: pairs\n    pairs_per_prompt: 3\n"
    plan = plans(recipe(wide), tmp_path)["annotate"]
    assert plan.summary.endswith("keep at most 3 pairs")
    assert plan.notes == ("24 completions, of which at most 18 preference pairs are made",)
    good = ANNOTATE + "    keep: above\n    above: 2.5\n"
    plan = plans(recipe(good), tmp_path)["annotate"]
    assert plan.summary.endswith("keep those above 2.5")
    assert plan.notes == ("24 completions, of which at most 24 conversations are made",)


def test_the_step_that_reads_made_rows_is_planned_on_as_many_with_the_real_prompts(
    recipe: Make, tmp_path: Path
) -> None:
    made = plans(recipe(ANNOTATE + DPO + "    hold_out: 0.4\n"), tmp_path)["dpo"]
    held = made.ledgers["hold_out"]["used"]
    assert made.rows == 6 - held > 0
    assert made.notes[0] == (
        "the rows of 'annotate' do not exist yet: the counts are upper limits, with real prompts and "
        "placeholder answers"
    )


def test_a_prompt_that_is_too_long_for_the_next_step_is_found_before_anything_runs(
    recipe: Make, tmp_path: Path
) -> None:
    message = refused(recipe(ANNOTATE + DPO + "    max_length: 9\n    overflow: stop\n"), tmp_path)
    assert message.startswith(
        "recipe.yaml:12: 4 rows have more than max_length 9 tokens: annotate:3 (11), annotate:4 (12)"
    )


def test_evaluate_reads_made_rows_beside_the_steps_it_looks_back_at(
    recipe: Make, tmp_path: Path
) -> None:
    evaluate = (
        "  - stage: evaluate\n    prompts: {step: annotate}\n    pairs: null\n"
        "    judge: variety\n    against: model\n    max_new_tokens: 4\n"
    )
    result = recipe(ANNOTATE + evaluate).run(runs=tmp_path / "runs", show=False)
    assert result["evaluate"].metrics["win_rate_vs_model"] == 0.5
    asked = [row["prompt"] for row in rows(Path(result["annotate"].folder), "data/rows.jsonl")]
    assert [
        row["prompt"] for row in rows(Path(result["evaluate"].folder), "samples.jsonl")
    ] == asked


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (ANNOTATE + DPO.replace("step: annotate", "step: anotate"),
         "recipe.yaml:10: step 'dpo' reads the rows of 'anotate', which is not an earlier step\n"
         "  hint: did you mean 'annotate'?"),
        (DPO.replace("{step: annotate}", "[{path: pairs.jsonl}, {step: annotate}]") + ANNOTATE,
         "recipe.yaml:5: step 'dpo' reads the rows of 'annotate', which is not an earlier step\n"
         "  hint: known: none"),
        ("  - stage: chat\n    template: chatml\n" + ANNOTATE
         + DPO.replace("step: annotate", "step: chat"),
         "recipe.yaml:12: step 'dpo' reads the rows of step 'chat', which makes none\n"
         "  hint: steps before it that make rows: annotate"),
        (ANNOTATE + DPO.replace("{step: annotate}", "{step: annotate, path: pairs.jsonl}"),
         "recipe.yaml:10: data: give one of path, hub, source and step, not path and step"),
        (ANNOTATE.replace("score: variety", "score: varity"),
         "recipe.yaml:6: no installed plugin offers a reward function 'varity'\n"
         "  hint: did you mean 'variety'?"),
        (ANNOTATE.replace("score: variety", "score: model"),
         "recipe.yaml:4: step 'annotate' requires 'reward', and nothing before it fills that slot\n"
         "  hint: put a step before it that fills 'reward': reward"),
        (ANNOTATE.replace("max_new_tokens: 6", "max_new_tokens: 90"),
         "recipe.yaml:8: the longest prompt has 10 tokens and a completion up to 90, but the policy has 96 "
         "positions\n"
         "  hint: lower max_new_tokens to 86 or less, or set max_length to 6 to drop longer prompts"),
        (ANNOTATE + "    max_length: 2\n    limits: {dropped: 1}\n",
         "recipe.yaml:5: prompts.jsonl: no row is left to use"),
        (ANNOTATE + "    keep: best\n" + DPO,
         "recipe.yaml:11: step annotate has the format messages (conversation rows), which cannot be "
         "converted to preference rows\n  hint: formats for preference rows:"),
    ],
)  # fmt: skip
def test_impossible_steps_are_refused_with_file_and_line(
    recipe: Make, tmp_path: Path, steps: str, message: str
) -> None:
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n"
    )
    found = refused(recipe(steps), tmp_path)
    assert found == message or (
        message.endswith("preference rows:") and found.startswith(message)
    ), found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("    score: []\n", "score is empty: completions cannot be compared without scores"),
        ("    score: [variety, {name: variety, weight: 2}]\n",
         "score names a source twice; give it once, with the summed weight"),
        ("    score: variety\n    samples_per_prompt: 1\n",
         "keep: best_and_worst compares completions: samples_per_prompt must be 2 or more"),
        ("    score: variety\n    temperature: 0\n",
         "at temperature 0 all completions of a prompt are the same"),
        ("    score: variety\n    min_new_tokens: 256\n",
         "min_new_tokens must be below max_new_tokens"),
        ("    score: variety\n    keep: above\n", "keep: above needs a threshold: `above: 0.5`"),
        ("    score: variety\n    keep: all\n    above: 1\n",
         "keep: all keeps every completion, but above would drop some"),
        ("    score: variety\n    keep: best\n    margin: 1\n",
         "margin is for pairs, but keep: best makes none"),
        ("    score: variety\n    pairs_per_prompt: 2\n", "pairs_per_prompt is for keep: pairs"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(
    recipe: Make, tmp_path: Path, options: str, message: str
) -> None:
    found = refused(recipe("  - stage: annotate\n    prompts: prompts.jsonl\n" + options), tmp_path)
    assert found == f"recipe.yaml:4: stage 'annotate': {message}"


def test_only_the_error_of_the_step_that_makes_rows_is_reported(
    recipe: Make, tmp_path: Path
) -> None:
    """Steps that read the rows cannot be planned then, and add no errors of their own."""
    message = refused(recipe(ANNOTATE.replace("score: variety", "score: varity") + DPO), tmp_path)
    assert message == (
        "recipe.yaml:6: no installed plugin offers a reward function 'varity'\n"
        "  hint: did you mean 'variety'?"
    )
    message = refused(recipe(ANNOTATE.replace("annotate", "anotate") + DPO), tmp_path)
    assert message == (
        "recipe.yaml:4: no plugin offers a stage 'anotate'\n  hint: did you mean 'annotate'?"
    )
