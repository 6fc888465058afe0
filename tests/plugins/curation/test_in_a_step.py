"""Row operations of a recipe change the rows of the step and are counted in its ledger."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from aligner.data.encoding.prepare import PreparedData, prepare_conversations
from aligner.data.options import DataOptions


def write(place: Any, name: str, *rows: Any) -> str:
    (place.recipe_folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def talk(asked: str, answer: str = "ok then") -> dict[str, str]:
    return {"prompt": asked, "completion": answer}


def prepare(place: Any, chatty: Any, **options: Any) -> PreparedData[Any]:
    place.memo.clear()
    return prepare_conversations(place, DataOptions(**options), chatty)


def report(prepared: PreparedData[Any], chatty: Any) -> list[str]:
    """The rows that are trained on, in words, without the template's."""
    spoken = [chatty.decode(row.input_ids) for row in prepared.train]
    return [text.split("user\n")[1].split("<|im_end|>")[0] for text in spoken]


def test_everything_at_once_is_done_and_told(place: Any, chatty: Any) -> None:
    asked = [talk(f"question {n} a b c d e") for n in range(20)]
    item = write(place, "one.jsonl", *asked, asked[0], talk("question 1  a b c d e \n"))
    two = write(place, "two.jsonl", talk("mail a@b.io"), talk("hi", ""), talk("other 7 x"))
    held = write(place, "eval.jsonl", talk("what was other 7 x of old"))
    prepared = prepare(
        place,
        chatty,
        data=[
            {"path": item, "clean": {"whitespace": "collapse"}, "augment": {"swap": 0.5}},
            {"path": two, "redact": ["email"], "weight": 1},
        ],
        eval_data=held,
        deduplicate="exact",
        decontaminate={"ngram": 3},
        mixture={"rows": 30},
        shuffle=True,
        limits={"dropped": 1},
    )
    ledger = prepared.ledgers["data"]
    assert {name: count.rows for name, count in ledger.filtered.items()} == {
        "repeats another row": 2,
        "has words in common with evaluation data": 1,
    }
    assert {name: count.rows for name, count in ledger.dropped.items()} == {"an answer is empty": 1}
    found = {name: count.rows for name, count in ledger.found.items()}
    assert found == {"cleaned": 1, "redacted_email": 1, "augmented": 20}
    rows = Counter(report(prepared, chatty))
    assert (sum(rows.values()), rows["mail [email]"]) == (30, 15)
    assert (ledger.read, ledger.used) == (25, 30)


def test_no_copy_of_what_is_held_out_is_trained_on(place: Any, chatty: Any) -> None:
    data = write(place, "a.jsonl", *[talk(f"a{n} b{n} c{n} d{n}") for n in range(60)])
    entry = {"path": data, "augment": {"swap": 0.5, "copies": 3}}
    prepared = prepare(place, chatty, data=entry, hold_out=0.3)
    numbers = {text.split()[0][1:] for text in report(prepared, chatty)}
    held = {
        chatty.decode(row.input_ids).split("user\n")[1].split()[0][1:] for row in prepared.held_out
    }
    assert len(held) > 5
    assert not numbers & held
    assert len(prepared.train) > 3 * (60 - len(held))


def test_what_decides_the_rows_decides_the_hash(place: Any, chatty: Any) -> None:
    data = write(place, "a.jsonl", *[talk(f"question {n}") for n in range(30)])
    (place.recipe_folder / "words.tsv").write_text("question\tquery\n")
    entries: list[Any] = [
        {},
        {"clean": True},
        {"redact": ["ip"]},
        {"sample": 20},
        {"parts": {"a": 0.5, "b": 0.5}, "part": "a"},
        {"augment": {"synonyms": "words.tsv"}},
        {"weight": 2},
    ]
    steps: list[Any] = [
        {"deduplicate": "exact"},
        {"mixture": {"rows": 20}},
        {"shuffle": True},
        {"decontaminate": {"against": write(place, "b.jsonl", talk("zero"))}},
    ]
    hashes = [prepare(place, chatty, data={"path": data, **item}).hash for item in entries]
    hashes += [prepare(place, chatty, data=data, **item).hash for item in steps]
    assert len(set(hashes)) == len(hashes)
    again = [prepare(place, chatty, data={"path": data, **item}).hash for item in entries]
    assert again == hashes[: len(again)]
    place.seed = 1
    other = [prepare(place, chatty, data={"path": data, **item}).hash for item in entries]
    drawn = [n for n, (item, two) in enumerate(zip(again, other, strict=True)) if item != two]
    assert [list(entries[n]) for n in drawn] == [["sample"], ["augment"], ["weight"]]


def test_a_limit_can_be_put_on_what_is_left_out(place: Any, chatty: Any) -> None:
    data = write(place, "a.jsonl", *[talk("the same")] * 3)
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        prepare(place, chatty, data=data, deduplicate=True, limits={"filtered": 0.5})
    assert str(refused.value) == (
        "recipe.yaml:data: a.jsonl: 2 of 3 rows (66.7%) were left out by operations of the recipe; "
        "at most 50.0% may be\n"
        "    2 repeats another row: a.jsonl:2 as a.jsonl:1, a.jsonl:3 as a.jsonl:1\n"
        "  hint: change the operations, or allow it with `limits: {filtered: 0.67}`"
    )
