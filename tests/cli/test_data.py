"""`aligner data`: inspection and conversion of data sets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Aligner = Callable[..., tuple[int, str, str]]

ROWS = [
    {"question": "Who wrote it?", "reply": "She did, in 1999, at home in Kent."},
    {"question": "Mail jo@x.io\x1b[31m", "reply": "\n".join(f"line {n}" for n in range(9))},
    {"question": "Who wrote it?", "reply": "She did, in 1999, at home in Kent."},
    {"question": "Why?", "reply": " "},
    {"question": 3, "reply": "x"},
]
RENAMED = ("--columns", "question=prompt", "--columns", "reply=completion")
PAGE = """\
talks.jsonl: 5 rows read, written as prompt-completion; 3 used
  1 skipped: field 'prompt' should be text, not the number 3 (talks.jsonl:5)
  1 dropped: an answer is empty (talks.jsonl:4)
  1 repeat an earlier row (talks.jsonl:3)

format   prompt-completion: conversation rows, which can become prompt rows
columns  question, reply

talks.jsonl:1
  user         Who wrote it?
  assistant    She did, in 1999, at home in Kent.

talks.jsonl:2
  user         Mail jo@x.io\\x1b[31m
  assistant    line 0
               line 1
               line 2
               line 3
               line 4
               … and 4 more lines

characters          min   median     mean      p90      p99      max
  prompt             13       13     14.3       17       17       17
  answer             34       34     43.3       62       62       62
words               min   median     mean      p90      p99      max
  prompt              3        3      3.7        5        5        5
  answer              8        8     11.3       18       18       18
turns               min   median     mean      p90      p99      max
  conversation        2        2        2        2        2        2

prompt begins with: who wrote 2, mail jo 1
answer begins with: she did 2, line 0 1

33.3% of the rows and 33.3% of the prompts repeat earlier ones

texts with words for                prompt                answer
she                                      0                     2
"""


@pytest.fixture(autouse=True)
def _curation(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNER_ONLY_PLUGINS", "toy,curation")


@pytest.fixture
def talks(desk: Path) -> Path:
    (desk / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return desk


def test_inspect_shows_used_and_removed_rows(
    talks: Path, aligner: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)
    code, output, errors = aligner("data", "inspect", "talks.jsonl", *RENAMED, "--groups", "she,he")
    assert output == PAGE
    assert (code, errors) == (0, "")


def test_inspecting_writes_json(talks: Path, aligner: Aligner) -> None:
    code, output, _ = aligner("data", "inspect", "talks.jsonl", *RENAMED, "--json", "--rows", "1")
    found = json.loads(output)
    assert code == 0
    assert list(found) == ["format", "kind", "columns", "ledger", "survey", "first"]
    assert (found["format"], found["kind"]) == ("prompt-completion", "conversation")
    assert (found["ledger"]["read"], found["ledger"]["used"], found["survey"]["rows"]) == (5, 3, 3)
    assert [row["origin"] for row in found["first"]] == ["talks.jsonl:1"]
    assert found["survey"]["beginnings"]["answer"] == {"she did": 2, "line 0": 1}


def test_inspect_applies_the_options_of_a_recipe(talks: Path, aligner: Aligner) -> None:
    options = (
        "{columns: {question: prompt, reply: completion}, redact: [email], deduplicate: exact}"
    )
    code, output, _ = aligner("data", "inspect", "talks.jsonl", "--with", options, "--rows", "2")
    assert code == 0
    assert "  1 filtered: repeats another row (talks.jsonl:3 as talks.jsonl:1)\n" in output
    assert "  1 had an e-mail address replaced (talks.jsonl:2)\n" in output
    assert "  user         Mail [email]\\x1b[31m\n" in output


def test_convert_writes_the_rows_and_counts_the_removed_ones(talks: Path, aligner: Aligner) -> None:
    options = "{clean: {min_chars: 60}, redact: [email], on_bad_row: skip}"
    code, output, errors = aligner(
        "data",
        "convert",
        "talks.jsonl",
        "out.jsonl",
        "--to",
        "messages",
        *RENAMED,
        "--with",
        options,
    )
    assert (code, errors) == (0, "")
    assert (
        output
        == """\
talks.jsonl: 5 rows read, written as prompt-completion; 1 used
  1 skipped: field 'prompt' should be text, not the number 3 (talks.jsonl:5)
  1 dropped: an answer is empty (talks.jsonl:4)
  2 filtered: fewer than 60 characters (talks.jsonl:1, talks.jsonl:3)
  1 were cleaned (talks.jsonl:2)
  1 had an e-mail address replaced (talks.jsonl:2)
out.jsonl: 1 rows written as messages
"""
    )
    (row,) = map(json.loads, (talks / "out.jsonl").read_text().splitlines())
    assert [turn["content"] for turn in row["messages"]] == ["Mail [email]", ROWS[1]["reply"]]


def test_convert_overwrites_only_with_force(talks: Path, aligner: Aligner) -> None:
    (talks / "in.txt").write_text("a text")
    (talks / "out.csv").write_text("old")
    words = ("data", "convert", "in.txt", "out.csv", "--to", "text")
    code, _, errors = aligner(*words)
    assert (code, errors) == (2, "out.csv exists already\n  hint: add --force to replace it\n")
    assert (talks / "out.csv").read_text() == "old"
    code, output, _ = aligner(*words, "--force", "--json")
    assert code == 0
    result = json.loads(output)
    assert (result["path"], result["rows"], result["format"]) == ("out.csv", 1, "text")
    assert result["ledger"]["used"] == 1
    assert (talks / "out.csv").read_text() == '"text"\n"a text"\n'


def test_rows_are_sampled_augmented_mixed_and_shuffled_by_the_seed(
    desk: Path, aligner: Aligner
) -> None:
    lines = "".join(json.dumps({"text": f"row {n} of many"}) + "\n" for n in range(50))
    (desk / "in.jsonl").write_text(lines)
    made = {}
    for seed in ("0", "0", "1"):
        options = "{sample: 20, augment: {swap: 0.5}, mixture: {rows: 30}, shuffle: true}"
        code, output, errors = aligner(
            *("data", "convert", "in.jsonl", f"out{seed}.jsonl", "--to", "text", "--force"),
            *("--with", options, "--seed", seed),
        )
        assert (code, errors) == (0, "")
        assert "  30 are not in the sample (" in output
        assert "are changed copies, added by augmentation (" in output
        made.setdefault(seed, []).append((desk / f"out{seed}.jsonl").read_text())
    assert len(made["0"][0].splitlines()) == 30
    assert made["0"][0] == made["0"][1] != made["1"][0]
    order = [json.loads(line)["text"] for line in made["0"][0].splitlines()]
    assert order != sorted(order)


def test_a_data_set_is_split_by_its_parts(desk: Path, aligner: Aligner) -> None:
    lines = [json.dumps({"text": f"row {n}"}) + "\n" for n in range(50)]
    (desk / "in.jsonl").write_text("".join(lines))
    parts = []
    for name in ("train", "test"):
        options = f"{{part: {name}, parts: {{train: 0.7, test: 0.3}}}}"
        aligner("data", "convert", "in.jsonl", f"{name}.jsonl", "--to", "text", "--with", options)
        parts += (desk / f"{name}.jsonl").read_text().splitlines(keepends=True)
    assert sorted(parts) == sorted(lines)


REFUSED = [
    (
        "data inspect none.jsonl",
        "no file or folder 'none.jsonl'\n  hint: did you mean 'one.jsonl'?\n",
    ),
    (
        "data inspect one.jsonl --format message",
        "there is no data format 'message'\n  hint: did you mean 'messages'?\n",
    ),
    (
        "data inspect one.jsonl --columns text",
        "--columns: 'text' does not rename a column\n  hint: write OLD=NEW: question=prompt\n",
    ),
    ("data inspect one.jsonl --with [", "--with: invalid YAML: while parsing a flow node"),
    (
        "data inspect one.jsonl --with clean",
        "--with: 'clean' is not a mapping of options\n"
        "  hint: write options as a mapping: '{clean: true, redact: [email]}'\n",
    ),
    (
        "data inspect one.jsonl --with {path: x}",
        "--with: the data option 'path' is not allowed here\n",
    ),
    (
        "data inspect one.jsonl --with {clea: true}",
        "--with: data has no option 'clea'\n  hint: did you mean 'clean'?\n",
    ),
    (
        "data inspect one.jsonl --with {clean: {unicode: NFX}}",
        "--with: clean.unicode is 'NFX', not 'NFC', 'NFKC' or 'keep'\n  hint: did you mean 'NFC'?\n",
    ),
    (
        "data inspect one.jsonl --with {augment: {swap: 0.1}}",
        "--with: augment adds rows, and inspect shows existing rows only\n",
    ),
    (
        "data inspect one.jsonl --with {decontaminate: true}",
        "--with: decontaminate has nothing to compare with: give it `against`, or eval_data\n",
    ),
    (
        "data inspect one.jsonl --with {decontaminate: {against: non.jsonl}}",
        "--with: no file or folder 'non.jsonl'\n  hint: did you mean 'one.jsonl'?\n",
    ),
    (
        "data convert one.jsonl out.jsonl --to message",
        "rows cannot be written as 'message'\n  hint: did you mean 'messages'?\n",
    ),
    (
        "data convert one.jsonl out.txt --to text",
        "files named like out.txt cannot be written\n"
        "  hint: use one of the endings .jsonl, .json, .csv, .tsv, .parquet; "
        "all but the last may end in .gz\n",
    ),
    (
        "data convert one.jsonl out.jsonl --to preference",
        "one.jsonl has the format text (text rows), which cannot be converted to preference rows\n"
        "  hint: formats for preference rows: hh, implicit-preference, implicit-preference-text, "
        "preference, preference-messages, ranking, ranking-by-rank, sharegpt-preference, "
        "ultrafeedback\n",
    ),
    (
        "data convert one.jsonl out.jsonl --to text --with {clean: {min_chars: 99}}",
        "one.jsonl: no row is left to write\n  hint: removed: fewer than 99 characters\n",
    ),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_errors_are_reported(desk: Path, aligner: Aligner, words: str, message: str) -> None:
    (desk / "one.jsonl").write_text('{"text": "one"}\n')
    before = sorted(os.listdir(desk))
    command, with_, options = words.partition(" --with ")
    code, output, errors = aligner(*command.split(), *(["--with", options] if with_ else []))
    assert (code, output) == (2, "")
    assert errors == message if message.endswith("\n") else errors.startswith(message)
    assert sorted(os.listdir(desk)) == before


def test_every_file_of_real_data_can_be_inspected(
    desk: Path, aligner: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)  # which takes a second to load, each time
    home = Path(__file__).parents[2] / ".." / "shared"
    data = Path(os.environ.get("ALIGNER_SHARED", home)) / "data"
    if not data.is_dir():
        pytest.skip(f"real data is not at {data}; say where with ALIGNER_SHARED")
    about = ("LICENCE", "LICENSE", "dataset_info")
    files = [file for file in sorted(data.rglob("*.*")) if not file.name.startswith(about)]
    assert len(files) == 20
    for file in files:
        words = ("data", "inspect", str(file), "--with", "{first: 100}", "--json")
        code, output, errors = aligner(*words)
        assert (code, errors) == (0, ""), file
        found = json.loads(output)
        assert 0 < found["survey"]["rows"] == found["ledger"]["used"], file
