"""Chains in which one step makes the rows that the next one learns from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.api import Recipe
from aligner.chain import StepProgress
from aligner.errors import AlignerError

from .conftest import rows, variety

Make = Callable[..., Recipe]

ANNOTATE = """\
  - stage: annotate
    prompts: {path: prompts.jsonl}
    samples_per_prompt: 4
    score: variety
    ended_only: false
    max_new_tokens: 6
    batch_size: 8
"""
DPO = """\
  - stage: dpo
    data: {step: annotate}
    max_steps: 2
    per_device_train_batch_size: 2
    learning_rate: 1e-2
"""


def run(recipe: Recipe, tmp_path: Path, **more: Any) -> Any:
    return recipe.run(runs=tmp_path / "runs", show=False, **more)


def test_pairs_contain_the_completions_with_most_and_fewest_letters(
    recipe: Make, tmp_path: Path
) -> None:
    """Worked out again from every answer that was kept beside the rows."""
    result = run(recipe(ANNOTATE), tmp_path)
    folder = Path(result["annotate"].folder)
    answers, made = rows(folder, "answers.jsonl"), rows(folder, "data/rows.jsonl")
    expected = []
    for item in answers:
        texts = list(dict.fromkeys(a["answer"] for a in item["answers"] if a["answer"].strip()))
        assert [a["score"] for a in item["answers"]] == [
            variety(a["answer"]) for a in item["answers"]
        ]
        scores = [variety(text) for text in texts]
        if len(set(scores)) > 1:
            expected.append((item["prompt"], max(scores), min(scores)))
    found = [(row["prompt"], row["score_chosen"], row["score_rejected"]) for row in made]
    assert found == expected
    assert len(found) >= 4, "too few to show anything"
    for row in made:
        assert variety(row["chosen"][0]["content"]) == row["score_chosen"]
        assert variety(row["rejected"][0]["content"]) == row["score_rejected"]
    metrics = result["annotate"].metrics
    assert metrics["rows"] == len(made)
    assert metrics["without_rows"] == 6 - len(made)
    every = [a for item in answers for a in item["answers"]]
    assert metrics["reward_mean"] == pytest.approx(sum(a["score"] for a in every) / 24)
    assert metrics["reward_best"] == pytest.approx(
        sum(max(a["score"] for a in item["answers"]) for item in answers) / 6
    )
    assert rows(folder, "samples.jsonl") == answers


def test_the_next_step_trains_on_the_best_completions(recipe: Make, tmp_path: Path) -> None:
    sft = DPO.replace("dpo", "sft")
    result = run(recipe(ANNOTATE + "    keep: best\n" + sft), tmp_path)
    folder = Path(result["annotate"].folder)
    for row, item in zip(
        rows(folder, "data/rows.jsonl"), rows(folder, "answers.jsonl"), strict=True
    ):
        assert row["reward"] == max(a["score"] for a in item["answers"])
        assert variety(row["messages"][-1]["content"]) == row["reward"]
    account = json.loads((Path(result["sft"].folder) / "ledger.json").read_text())
    assert account["data"]["used"] == 6
    assert account["data"]["name"] == "step annotate"


def test_the_ledger_of_the_training_step_counts_the_real_rows(recipe: Make, tmp_path: Path) -> None:
    """The check counts as many as there may be; the run, those that were made."""
    checked = recipe(ANNOTATE + DPO).check(runs=tmp_path / "runs")
    assert checked.plans["dpo"].rows == 6
    # This margin leaves some prompts without a pair.
    result = run(recipe(ANNOTATE + "    margin: 4\n" + DPO), tmp_path)
    made = int(result["annotate"].metrics["rows"])
    assert 0 < made < 6
    account = json.loads((Path(result["dpo"].folder) / "ledger.json").read_text())
    assert account["data"]["read"] == account["data"]["used"] == made
    assert account["data"]["tokens"] > account["data"]["trained"] > 0
    assert account["data"]["lengths"]["max"] > 6
    plan = recipe(ANNOTATE + DPO).check(runs=tmp_path / "runs").plans["dpo"]
    assert plan.tokens is None, "nobody knew how long the answers would be"
    assert not {"tokens", "trained", "lengths"} & plan.ledgers["data"].keys()


def test_a_preview_shows_the_rows_themselves_once_they_are_made(
    recipe: Any, tmp_path: Path
) -> None:
    chain = recipe(ANNOTATE + DPO)
    (before,) = chain.preview(steps=["dpo"], runs=tmp_path / "runs").steps["dpo"]
    result = chain.run(runs=tmp_path / "runs", until="annotate", show=False)
    (after,) = chain.preview(steps=["dpo"], runs=tmp_path / "runs").steps["dpo"]
    placeholders = "the rows of 'annotate' do not exist yet"
    assert any(note.startswith(placeholders) for note in before.notes)
    assert not any(note.startswith(placeholders) for note in after.notes)
    made = rows(Path(result["annotate"].folder) / "data", "rows.jsonl")[0]
    chosen = "".join(token.text for token in after.rows[0].sequences[0].tokens)
    readable = made["chosen"][0]["content"].split("\ufffd")[0]
    assert len(readable) > 1
    assert readable in chosen


def test_finished_steps_are_reused_and_a_later_change_reruns_only_what_follows(
    recipe: Make, tmp_path: Path
) -> None:
    def reused(steps: str) -> dict[str, bool]:
        return {name: step.reused for name, step in run(recipe(steps), tmp_path).steps.items()}

    assert reused(ANNOTATE + DPO) == {"annotate": False, "dpo": False}
    assert reused(ANNOTATE + DPO) == {"annotate": True, "dpo": True}
    assert reused(ANNOTATE + DPO.replace("max_steps: 2", "max_steps: 3")) == {
        "annotate": True,
        "dpo": False,
    }
    assert reused(ANNOTATE + "    margin: 1\n" + DPO) == {"annotate": False, "dpo": True}, (
        "the same rows, though made otherwise"
    )
    assert reused(ANNOTATE + "    margin: 4\n" + DPO) == {"annotate": False, "dpo": False}


def test_the_rows_of_a_step_do_not_depend_on_its_name(recipe: Make, tmp_path: Path) -> None:
    run(recipe(ANNOTATE + DPO), tmp_path)
    renamed = ANNOTATE + "    as: pairs\n" + DPO.replace("step: annotate", "step: pairs")
    assert all(step.reused for step in run(recipe(renamed), tmp_path).steps.values())


def test_a_chain_goes_round_with_the_policy_that_each_round_leaves(
    recipe: Make, tmp_path: Path
) -> None:
    """Annotate, dpo, annotate, dpo: the second answers are the first dpo's. Its weights have hardly
    moved, and yet all answers differ: another policy draws other random numbers.
    """
    dpo = DPO.replace("1e-2", "1e-6")
    again = ANNOTATE + "    as: again\n" + dpo.replace("step: annotate", "step: again")
    result = run(recipe(ANNOTATE + dpo + again + "    as: dpo-2\n"), tmp_path)
    first, second = (
        rows(Path(result[name].folder), "answers.jsonl") for name in ("annotate", "again")
    )
    assert [item["prompt"] for item in first] == [item["prompt"] for item in second]
    assert all(
        item["answers"] != other["answers"] for item, other in zip(first, second, strict=True)
    )
    assert result["again"].state.policy.hash == result["dpo"].state.policy.hash
    assert result["dpo-2"].state.data.made_by == "again"
    # A step reads the rows it names, not those that were made last.
    late = recipe(
        ANNOTATE + dpo + again.replace("step: again", "step: annotate") + "    as: dpo-2\n"
    )
    result = run(late, tmp_path)
    account = json.loads((Path(result["dpo-2"].folder) / "ledger.json").read_text())
    assert account["data"]["name"] == "step annotate"


def test_the_reward_slot_scores_as_the_reward_model_does(recipe: Make, tmp_path: Path) -> None:
    """Against the whole classifier's own forward on each conversation alone."""
    import torch

    from aligner.data.encoding.chat import ChatEncoder
    from aligner.data.encoding.tokenizers import load_tokenizer
    from aligner.models.reward import load_reward
    from aligner.state import ModelCache

    pairs = "\n".join(
        json.dumps({"prompt": f"{n}", "chosen": "yes a cat", "rejected": "no"}) for n in range(8)
    )
    (tmp_path / "pairs.jsonl").write_text(pairs + "\n")
    reward = (
        "  - stage: reward\n    data: pairs.jsonl\n    max_steps: 2\n"
        "    per_device_train_batch_size: 4\n"
    )
    both = ANNOTATE.replace("score: variety", "score: [model, {name: variety, weight: 0.5}]")
    result = run(recipe(reward + both), tmp_path)
    artifact = result["annotate"].state.reward
    model = load_reward(artifact, ModelCache()).eval()
    tokenizer = load_tokenizer(result["annotate"].state.tokenizer, ModelCache())
    chat = ChatEncoder(tokenizer)
    for item in rows(Path(result["annotate"].folder), "answers.jsonl")[:3]:
        asked = chat.encode([chat.prompt(tuple(item["prompt"]))])[0].input_ids
        for answer in item["answers"]:
            text = tokenizer(answer["answer"], add_special_tokens=False)["input_ids"]
            ids = [*asked, *text, *(chat.stops[:1] if answer["ended"] else [])]
            with torch.no_grad():
                alone = float(model(torch.tensor([ids])).logits)
            assert answer["scores"]["model"] == pytest.approx(alone, abs=1e-4)
            total = answer["scores"]["model"] + 0.5 * variety(answer["answer"])
            assert answer["score"] == pytest.approx(total)
    assert {"reward_model", "reward_variety"} <= set(result["annotate"].metrics)


def test_completions_do_not_depend_on_the_batch(recipe: Make, tmp_path: Path) -> None:
    found = []
    for size in (4, 24):
        result = run(
            recipe(
                ANNOTATE.replace(
                    "per_device_train_batch_size: 8", f"per_device_train_batch_size: {size}"
                )
            ),
            tmp_path / str(size),
        )
        found.append(rows(Path(result["annotate"].folder), "answers.jsonl"))
    assert found[0] == found[1]


class Killed(BaseException):
    """Raised in place of a kill."""


@pytest.mark.parametrize("at", [8, 16, 24, 32, 40])
def test_a_killed_step_resumes_to_the_same_rows(recipe: Make, tmp_path: Path, at: int) -> None:
    whole = run(recipe(ANNOTATE), tmp_path / "whole")

    def kill(event: Any) -> None:
        if isinstance(event, StepProgress) and event.progress.done == at:
            raise Killed

    with pytest.raises(Killed):
        run(recipe(ANNOTATE), tmp_path, on_event=kill)
    [work] = (tmp_path / "runs" / ".steps").glob("*.partial")
    for path in work.glob("written-0.jsonl"):
        path.write_bytes(path.read_bytes() + b'{"prompt": 5, "answ')  # a line cut short
    seen = []
    after = run(recipe(ANNOTATE), tmp_path, on_event=lambda event: seen.append(event))
    report = [event.progress.done for event in seen if isinstance(event, StepProgress)]
    assert report == list(range(at + 8, 49, 8)), "it begins where it was killed"
    assert after["annotate"].state.data.hash == whole["annotate"].state.data.hash
    assert after["annotate"].metrics == whole["annotate"].metrics
    for name in ("answers.jsonl", "samples.jsonl"):
        assert rows(Path(after["annotate"].folder), name) == rows(
            Path(whole["annotate"].folder), name
        )
    left = sorted(path.name for path in Path(after["annotate"].folder).iterdir())
    assert not [name for name in left if name.startswith(("written", "scored"))]


def test_scores_that_are_not_finite_are_an_error(recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(AlignerError) as error:
        run(recipe(ANNOTATE.replace("variety", "broken")), tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/recipe.yaml:7: reward function 'broken' returned 8 scores for 8 completions, "
        "0 of them finite\n  hint: a reward function must return one finite number per completion"
    )


def test_a_step_without_any_row_fails_with_the_reasons(recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(AlignerError) as error:
        run(recipe(ANNOTATE.replace("variety", "same")), tmp_path)
    [work] = (tmp_path / "runs" / ".steps").glob("*.partial")
    assert str(error.value) == (
        f"{tmp_path}/recipe.yaml:4: no row can be made of 6 prompts with 4 completions each: 6 "
        f"ties\n"
        f"  hint: {work}/answers.jsonl lists every completion with its scores"
    )
