"""Paraphrased rows: requests, accepted paraphrases, and what stays unchanged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.api import Recipe
from aligner.data.ledger import Ledger
from aligner.data.rows import Conversation, Preference, Prompt
from aligner.errors import AlignerError
from aligner_annotate.generation import Candidate
from aligner_annotate.options import ParaphraseOptions
from aligner_annotate.paraphrase_rows import (
    ParaphraseData,
    ParaphraseRequest,
    accept_paraphrases,
    rows_with,
)

from .conftest import rows

Make = Callable[..., Recipe]

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "hello there"}
REPLY = {"role": "assistant", "content": "hello"}
LAST = {"role": "user", "content": "how tall is the old tower"}
ANSWER = {"role": "assistant", "content": "100 m"}


def requests(*found: Any) -> ParaphraseData:
    """Return data in which the given turn of each row is to be paraphrased."""
    asked = [
        ParaphraseRequest(row=row, turn=turn, text=LAST["content"], input_ids=[1])
        for row, turn in found
    ]
    return ParaphraseData(
        rows=[row for row, _ in found],
        requests=asked,
        ledger=Ledger(name="", read=len(found)),
        hash="",
        skipped=(),
    )


def test_completions_that_are_no_paraphrases_are_dropped_and_counted() -> None:
    texts = [
        ("What height has the old tower?", True),
        ("How tall  is the OLD tower", True),
        ("what height has the  old tower?", True),
        ("", True),
        ("How tall is that old", False),
        ("tall?", True),
        ("well " * 13, True),
    ]
    candidates = [Candidate(text=text, ended=ended, tokens=3) for text, ended in texts]
    dropped: Counter[str] = Counter()
    [request] = requests((Conversation(messages=(LAST, ANSWER)), 0)).requests
    kept = accept_paraphrases(request, candidates, ParaphraseOptions(data="x"), dropped)
    assert kept == ["What height has the old tower?"]
    assert dropped == {"unchanged": 1, "identical": 1, "empty": 1, "unended": 1, "length": 2}


def test_only_the_last_user_turn_of_a_row_changes() -> None:
    tools = ({"type": "function", "function": {"name": "measure"}},)
    talk = Conversation(messages=(SYSTEM, FIRST, REPLY, LAST, ANSWER), tools=tools)
    pair = Preference(prompt=(LAST,), chosen=(ANSWER,), rejected=(REPLY,), margin=2.0)
    prompt = Prompt(messages=(LAST,), row={"answer": "100 m"})
    bare = Conversation(messages=(REPLY,))
    found = requests((talk, 3), (pair, 0), (prompt, 0))
    found = ParaphraseData(**{**vars(found), "rows": [talk, pair, prompt, bare]})
    other = {"role": "user", "content": "the tower's height?"}
    texts = {place: [other["content"]] for place in range(3)}
    made = rows_with(found, texts, originals=False)
    assert made == [
        {"messages": [SYSTEM, FIRST, REPLY, other, ANSWER], "tools": list(tools)},
        {"prompt": [other], "chosen": [ANSWER], "rejected": [REPLY], "margin": 2.0},
        {"answer": "100 m", "prompt": [other]},
    ]
    both = rows_with(found, texts, originals=True)
    assert len(both) == 7
    assert both[0]["messages"] == [SYSTEM, FIRST, REPLY, LAST, ANSWER]
    assert both[1] == made[0]
    assert both[-1] == {"messages": [REPLY]}


PARAPHRASE = """\
  - stage: paraphrase
    data: {file}
    rows: {rows}
    versions: 8
    instruction: "reword {{text}}"
    shortest: 0
    longest: 100
    max_new_tokens: 24
"""


@pytest.mark.parametrize(
    ("kind", "row", "after"),
    [
        ("conversation", {"messages": [LAST, ANSWER]}, "sft"),
        ("preference", {"prompt": [LAST], "chosen": [ANSWER], "rejected": [REPLY]}, "dpo"),
        ("prompt", {"prompt": [LAST], "answer": "100 m"}, None),
    ],
)
def test_paraphrased_rows_are_trained_on_by_the_step_for_their_kind(
    recipe: Make, tmp_path: Path, kind: str, row: dict[str, Any], after: str | None
) -> None:
    """A random model generates nonsense; the test is where it goes."""
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 4)
    steps = PARAPHRASE.format(file="rows.jsonl", rows=kind)
    if after is not None:
        steps += f"  - stage: {after}\n    data: {{step: paraphrase}}\n    max_steps: 1\n"
    result = recipe(steps).run(runs=tmp_path / "runs", show=False)
    made = rows(Path(result["paraphrase"].folder), "data/rows.jsonl")
    metrics = result["paraphrase"].metrics
    assert metrics["paraphrases"] > 0
    assert len(made) == metrics["rows"] == 4 + metrics["paraphrases"]
    taken = [sample["taken"] for sample in rows(Path(result["paraphrase"].folder), "answers.jsonl")]
    turns = [row.get("messages", row.get("prompt"))[0]["content"] for row in made]
    assert turns == [text for kept in taken for text in (LAST["content"], *kept)]
    if after is not None:
        account = json.loads((Path(result[after].folder) / "ledger.json").read_text())
        assert account["data"]["read"] == len(made)


def test_the_plan_states_the_largest_number_of_rows(recipe: Make, tmp_path: Path) -> None:
    steps = PARAPHRASE.format(file="prompts.jsonl", rows="prompt")
    plan = recipe(steps).check(runs=tmp_path / "runs").plans["paraphrase"]
    assert plan.summary == (
        "generate 8 paraphrases of the last user turn of each prompt, at temperature 0.7"
    )
    assert plan.notes == ("48 paraphrases are generated, and at most 54 rows made",)


def test_a_step_without_any_paraphrase_fails(recipe: Make, tmp_path: Path) -> None:
    steps = PARAPHRASE.format(file="prompts.jsonl", rows="prompt")
    steps = steps.replace("longest: 100", "longest: 0.01")
    with pytest.raises(AlignerError) as error:
        recipe(steps).run(runs=tmp_path / "runs", show=False)
    [work] = (tmp_path / "runs" / ".steps").glob("*.partial")
    where, _, message = str(error.value).partition(": ")
    assert where == f"{tmp_path}/recipe.yaml:4"
    assert message.startswith("none of 48 completions is a paraphrase: ")
    assert message.endswith(
        f"\n  hint: {work}/answers.jsonl lists all of them; a larger model may do better"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reword {text}", "reword",
         "8: instruction: write {text} once, as the placeholder of the turn to paraphrase"),
        ("shortest: 0", "shortest: 101", "4: stage 'paraphrase': shortest is above longest"),
        ("longest: 100", "longest: 100\n    temperature: 0",
         "4: stage 'paraphrase': at temperature 0 all versions of a row are the same"),
        ("longest: 100", "longest: 100\n    max_length: 2",
         "5: none of 6 rows has a user turn that can be paraphrased\n  hint: raise max_length"),
        ("max_new_tokens: 24", "max_new_tokens: 90",
         "11: the longest prompt has 17 tokens and a completion up to 90, but the policy has 96 "
         "positions\n  hint: lower max_new_tokens to 79 or less, or set max_length to 6 to drop "
         "longer prompts"),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(
    recipe: Make, tmp_path: Path, old: str, new: str, message: str
) -> None:
    steps = PARAPHRASE.format(file="prompts.jsonl", rows="prompt")
    with pytest.raises(AlignerError) as error:
        recipe(steps.replace(old, new)).check(runs=tmp_path / "runs")
    assert str(error.value) == f"{tmp_path}/recipe.yaml:{message}"
