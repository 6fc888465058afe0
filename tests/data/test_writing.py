"""Written files read back as the same rows, and are complete or absent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aligner.data.options import DataSpec
from aligner.data.reading.formats import FORMATS
from aligner.data.reading.load import load_rows, stream_any_kind
from aligner.data.rows import (
    ClassifiedText,
    Conversation,
    LabeledCompletion,
    Preference,
    Prompt,
    Ranking,
    Row,
    ScoredCompletion,
)
from aligner.data.writing import FILES, TARGETS, Target, file_kind, find_target, write_rows
from aligner.errors import DataError
from tests.data.small_rows import pair, talk, text, turns

CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
TOOLS = ({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},)
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = ({"role": "assistant", "content": 'Yes,\n"sir".'},)
RICH = Conversation(
    messages=(
        SYSTEM,
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning": "So."},
        {"role": "tool", "content": "3", "name": "f"},
        {"role": "assistant", "content": "It is 3."},
    ),
    tools=TOOLS,
)
PLAIN: dict[str, Sequence[Row]] = {
    "prompt-completion": [talk("Hi, you", 'a "b"\nc'), talk("Ho", "d")],
    "prompt": [Prompt(messages=turns("Hi"), row={"answer": "4", "id": "x"})],
    "preference": [
        replace(pair("Hi", "b", "c"), margin=2.0),
        replace(pair("x", "y", "z"), margin=1.0),
    ],
    "prompt-completion-label": [
        LabeledCompletion(prompt=turns("Hi"), completion=ANSWER, label=label)
        for label in (True, False)
    ],
    "prompt-completion-score": [ScoredCompletion(prompt=turns("Hi"), completion=ANSWER, score=1.5)],
    "text": [text("one\n\ntwo"), text('three, "four"\ttab')],
    "text-label": [ClassifiedText(text="good", label="1"), ClassifiedText(text="bad", label="0")],
}
NESTED: dict[str, Sequence[Row]] = {
    "messages": [RICH, talk("a", "b", "c", "d")],
    "preference": [
        Preference(
            prompt=(SYSTEM, *turns("a", "b", "c")), chosen=ANSWER, rejected=RICH.messages[-1:]
        ),
        replace(pair("a", "b", "c"), margin=1.0),
    ],
    "ranking": [
        Ranking(prompt=turns("a"), completions=(ANSWER, RICH.messages[-1:]), scores=(2.0, 1.0)),
        Ranking(prompt=(SYSTEM, *turns("a")), completions=(ANSWER,), scores=(1.0,)),
    ],
    "text-label": [ClassifiedText(text="good", pair="b", label="yes")],
}


def bare(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, origin="") for row in rows]


def read(place: Any, path: Path, to: str) -> list[Row]:
    loaded = load_rows(
        [DataSpec(path=str(path))], want=TARGETS[to].kind, context=place, option="data"
    )
    return bare(loaded.rows)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "csv", "csv.gz", "tsv", "parquet"])
@pytest.mark.parametrize("to", PLAIN)
def test_plain_rows_are_read_back_from_every_file(place: Any, to: str, ending: str) -> None:
    path, rows = place.recipe_folder / f"out.{ending}", PLAIN[to]
    assert write_rows(path, lambda: rows, find_target(to)) == len(rows)
    assert read(place, path, to) == rows


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("to", NESTED)
def test_turns_tools_and_scores_are_read_back(place: Any, to: str, ending: str) -> None:
    path, rows = place.recipe_folder / f"out.{ending}", NESTED[to]
    write_rows(path, lambda: rows, find_target(to))
    assert read(place, path, to) == rows


def test_plain_conversations_are_written_as_texts_and_others_as_turns(place: Any) -> None:
    path = place.recipe_folder / "out.jsonl"
    write_rows(path, lambda: [talk("Hi", "Ho")], find_target("prompt-completion"))
    assert json.loads(path.read_text()) == {"prompt": "Hi", "completion": "Ho"}
    write_rows(
        path, lambda: [talk("Hi", "Ho"), talk("a", "b", "c", "d")], find_target("prompt-completion")
    )
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["prompt"] == [{"role": "user", "content": "Hi"}]
    assert [len(second["prompt"]), len(second["completion"])] == [3, 1]


def test_the_last_answer_of_a_conversation_has_all_turns_after_the_question(place: Any) -> None:
    path = place.recipe_folder / "out.jsonl"
    write_rows(path, lambda: [RICH], find_target("prompt-completion"))
    row = json.loads(path.read_text())
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert [turn["role"] for turn in row["completion"]] == ["assistant", "tool", "assistant"]


REAL = [
    ("llamafactory-toolcall/glaive_toolcall_en_demo.json", "messages"),
    ("llamafactory-toolcall/reason_tool_use_demo_50.jsonl", "messages"),
    ("llamafactory-alpaca/alpaca_en_demo.json", "prompt-completion"),
    ("llamafactory-dpo/dpo_en_demo.json", "preference"),
    ("ultrafeedback/train_clean.jsonl", "preference"),
    ("hh-rlhf/harmless-base/train.jsonl.gz", "preference"),
    ("xstest/xstest_prompts.csv", "prompt"),
    ("sst2/train.tsv", "text-label"),
    ("tinystories/tinystories_1000.json", "text"),
]


@pytest.mark.parametrize(("file", "to"), REAL)
def test_real_data_is_read_back_as_it_was(place: Any, shared: Path, file: str, to: str) -> None:
    spec = DataSpec(path=str(shared / "data" / file), first=300)
    rows = load_rows([spec], want=TARGETS[to].kind, context=place, option="data").rows
    path = place.recipe_folder / "out.jsonl"
    write_rows(path, lambda: rows, find_target(to))
    assert read(place, path, to) == bare(rows)


def test_every_target_is_a_format_that_is_recognized_by_itself(place: Any) -> None:
    for to, rows in {**PLAIN, **NESTED}.items():
        path = place.recipe_folder / f"{to}.jsonl"
        write_rows(path, lambda rows=rows: rows, find_target(to))  # type: ignore[misc]
        again = stream_any_kind(DataSpec(path=str(path)), place, "data")
        assert bare(list(again.rows())) == rows
        assert again.ledger().formats[0] in FORMATS


def test_the_same_rows_make_the_same_packed_file(place: Any) -> None:
    files = [place.recipe_folder / name for name in ("a.jsonl.gz", "b.jsonl.gz")]
    for path in files:
        write_rows(path, lambda: [text("a")], find_target("text"))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes()[4:8] == bytes(4)  # where others write the time
    assert gzip.decompress(files[0].read_bytes()) == b'{"text": "a"}\n'


def test_what_fails_on_the_way_leaves_the_old_file_and_no_other(place: Any) -> None:
    path = place.recipe_folder / "out.jsonl"
    path.write_text("old")

    def rows() -> Iterator[Row]:
        yield text("a")
        raise DataError("broken")

    for ending in ("jsonl", "parquet"):
        with pytest.raises(DataError, match=r"^broken$"):
            write_rows(path.with_suffix(f".{ending}"), rows, TARGETS["text"])
    assert [(item.name, item.read_text()) for item in place.recipe_folder.iterdir()] == [
        ("out.jsonl", "old")
    ]


def test_nothing_is_written_where_there_is_no_row(place: Any) -> None:
    path = place.recipe_folder / "out.jsonl"
    assert write_rows(path, list, TARGETS["text"]) == 0
    assert not path.exists()


def refused(rows: Sequence[Row], path: Path, to: Target) -> str:
    with pytest.raises(DataError) as error:
        write_rows(path, lambda: rows, to)
    return str(error.value)


def test_rows_that_a_file_cannot_hold_are_refused(place: Any) -> None:
    folder = place.recipe_folder
    turned = (
        "cells of out.csv contain text, but the rows have lists of turns\n"
        "  hint: write .jsonl or .parquet; prompts and answers of one turn each fit "
        "`--to prompt-completion`"
    )
    assert refused([talk("a", "b")], folder / "out.csv", TARGETS["messages"]) == turned
    assert refused([RICH], folder / "out.csv", TARGETS["prompt-completion"]) == turned
    mixed = [ClassifiedText(text="a", label="1"), ClassifiedText(text="a", pair="b", label="1")]
    assert refused(mixed, folder / "out.csv", TARGETS["text-label"]) == (
        "row 2 has the columns text, pair, label, the first one text, label\n  hint: write .jsonl"
    )
    others = [Prompt(messages=turns("a"), row={"x": value}) for value in (1, "b")]
    output = refused(others, folder / "out.parquet", TARGETS["prompt"])
    assert output.startswith("the rows do not fit one table, as out.parquet must contain: ")
    assert output.endswith("\n  hint: write .jsonl")
    assert refused(
        [talk("a", origin="a.jsonl:3")], folder / "out.jsonl", TARGETS["prompt-completion"]
    ) == (
        "a.jsonl:3: the conversation has no last question that is answered\n"
        "  hint: correct it, or write --to messages"
    )
    assert refused([text("a")], folder / "none" / "out.jsonl", TARGETS["text"]) == (
        f"cannot write {folder}/none/out.jsonl: No such file or directory"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "out.txt", "out.parquet.gz", "out.jsonl.zst", "out.arrow"])
def test_files_that_are_not_written_are_refused(name: str) -> None:
    with pytest.raises(DataError) as error:
        file_kind(Path(name))
    assert str(error.value) == (
        f"files named like {name} cannot be written\n"
        "  hint: use one of the endings .jsonl, .json, .csv, .tsv, .parquet; all but the last may end in .gz"
    )
    assert all(file_kind(Path(f"out.{kind}")) == (kind, False) for kind in FILES)


def test_a_format_that_is_not_written_is_refused() -> None:
    with pytest.raises(DataError) as error:
        find_target("message")
    assert (
        str(error.value) == "rows cannot be written as 'message'\n  hint: did you mean 'messages'?"
    )
