"""Rows in other words: what is asked, what is taken, and what stays as it was."""

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
from aligner_annotate.answers import Candidate
from aligner_annotate.paraphrase_stage import ParaphraseOptions
from aligner_annotate.reword import Request, Requests, rows_with, taken

from .conftest import rows

Make = Callable[..., Recipe]

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "hello there"}
REPLY = {"role": "assistant", "content": "hello"}
LAST = {"role": "user", "content": "how tall is the old tower"}
ANSWER = {"role": "assistant", "content": "100 m"}


def requests(*found: Any) -> Requests:
    """Rows whose third turn of four, or first of one, is to be reworded."""
    asked = [
        Request(row=row, turn=turn, text=LAST["content"], input_ids=[1]) for row, turn in found
    ]
    return Requests(
        rows=[row for row, _ in found],
        requests=asked,
        ledger=Ledger(name="", read=len(found)),
        hash="",
        skipped=(),
    )


def test_what_repeats_the_original_or_is_no_answer_is_left_out_and_counted() -> None:
    said = [
        ("What height has the old tower?", True),
        ("How tall  is the OLD tower", True),
        ("what height has the  old tower?", True),
        ("", True),
        ("How tall is that old", False),
        ("tall?", True),
        ("well " * 13, True),
    ]
    candidates = [Candidate(text=text, ended=ended, tokens=3) for text, ended in said]
    dropped: Counter[str] = Counter()
    [request] = requests((Conversation(messages=(LAST, ANSWER)), 0)).requests
    kept = taken(request, candidates, ParaphraseOptions(data="x"), dropped)
    assert kept == ["What height has the old tower?"]
    assert dropped == {"unchanged": 1, "identical": 1, "empty": 1, "unended": 1, "length": 2}


def test_only_the_last_user_turn_is_other_and_all_else_of_a_row_stays() -> None:
    tools = ({"type": "function", "function": {"name": "measure"}},)
    talk = Conversation(messages=(SYSTEM, FIRST, REPLY, LAST, ANSWER), tools=tools)
    pair = Preference(prompt=(LAST,), chosen=(ANSWER,), rejected=(REPLY,), margin=2.0)
    prompt = Prompt(messages=(LAST,), row={"answer": "100 m"})
    bare = Conversation(messages=(REPLY,))
    found = requests((talk, 3), (pair, 0), (prompt, 0))
    found = Requests(**{**vars(found), "rows": [talk, pair, prompt, bare]})
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
def test_rows_in_other_words_go_on_to_the_step_that_learns_from_their_kind(
    recipe: Make, tmp_path: Path, kind: str, row: dict[str, Any], after: str | None
) -> None:
    """A random model writes nonsense; what is looked at is where it goes."""
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 4)
    steps = PARAPHRASE.format(file="rows.jsonl", rows=kind)
    if after is not None:
        steps += f"  - stage: {after}\n    data: {{step: paraphrase}}\n    max_steps: 1\n"
    result = recipe(steps).run(runs=tmp_path / "runs", show=False)
    made = rows(Path(result["paraphrase"].folder), "data/rows.jsonl")
    metrics = result["paraphrase"].metrics
    assert metrics["paraphrases"] > 0
    assert len(made) == metrics["rows"] == 4 + metrics["paraphrases"]
    taken = [one["taken"] for one in rows(Path(result["paraphrase"].folder), "answers.jsonl")]
    turns = [one.get("messages", one.get("prompt"))[0]["content"] for one in made]
    assert turns == [text for kept in taken for text in (LAST["content"], *kept)]
    if after is not None:
        account = json.loads((Path(result[after].folder) / "ledger.json").read_text())
        assert account["data"]["read"] == len(made)


def test_the_plan_says_how_many_rows_there_may_be(recipe: Make, tmp_path: Path) -> None:
    steps = PARAPHRASE.format(file="prompts.jsonl", rows="prompt")
    plan = recipe(steps).check(runs=tmp_path / "runs").plans["paraphrase"]
    assert plan.summary == (
        "ask for 8 paraphrases of the last user turn of each prompt, at temperature 0.7"
    )
    assert plan.notes == ("48 paraphrases are asked for, and at most 54 rows made",)


def test_a_model_that_only_repeats_makes_no_rows_and_the_step_says_so(
    recipe: Make, tmp_path: Path
) -> None:
    steps = PARAPHRASE.format(file="prompts.jsonl", rows="prompt")
    steps = steps.replace("longest: 100", "longest: 0.01")
    with pytest.raises(AlignerError) as error:
        recipe(steps).run(runs=tmp_path / "runs", show=False)
    [work] = (tmp_path / "runs" / ".steps").glob("*.partial")
    where, _, said = str(error.value).partition(": ")
    assert where == f"{tmp_path}/recipe.yaml:4"
    assert said.startswith("not one of 48 answers is a paraphrase: ")
    assert said.endswith(
        f"\n  hint: {work}/answers.jsonl has them all; a larger model may do better"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("reword {text}", "reword",
         "8: instruction: write {text} once, where the turn goes that is reworded"),
        ("shortest: 0", "shortest: 101", "4: stage 'paraphrase': shortest is above longest"),
        ("longest: 100", "longest: 100\n    temperature: 0",
         "4: stage 'paraphrase': at temperature 0 all versions of a row are the same"),
        ("longest: 100", "longest: 100\n    max_length: 2",
         "5: none of 6 rows has a user turn that could be reworded\n  hint: raise max_length"),
        ("max_new_tokens: 24", "max_new_tokens: 90",
         "11: the longest prompt has 17 tokens and an answer 90, and the policy 96 positions\n"
         "  hint: lower max_new_tokens to 79 or less, or set max_length to 6 to leave longer "
         "prompts out"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    recipe: Make, tmp_path: Path, old: str, new: str, said: str
) -> None:
    steps = PARAPHRASE.format(file="prompts.jsonl", rows="prompt")
    with pytest.raises(AlignerError) as error:
        recipe(steps.replace(old, new)).check(runs=tmp_path / "runs")
    assert str(error.value) == f"{tmp_path}/recipe.yaml:{said}"
