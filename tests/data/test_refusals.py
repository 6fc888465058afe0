"""Data that would do harm is refused, and the whole message says where, what and what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from aligner import AlignerError, DataSource, ExtensionOptions, Registry
from aligner.data.options import DataSpec
from aligner.data.reading.load import LoadedRows, load_rows

from .conftest import hold_out

GOOD = {"prompt": "Hi?", "completion": "Yes."}


def refused(place: Any, want: str = "conversation", **options: Any) -> str:
    spec = DataSpec(**options)
    with pytest.raises(AlignerError) as error:
        load_rows([spec], want=want, context=place, option="data")  # type: ignore[arg-type]
    return str(error.value)


def write(place: Any, name: str, content: str | bytes | list[Any]) -> str:
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    data = content.encode() if isinstance(content, str) else content
    (place.recipe_folder / name).write_bytes(data)
    return name


def accepted(place: Any, want: str = "conversation", **options: Any) -> LoadedRows:
    return load_rows([DataSpec(**options)], want=want, context=place, option="data")  # type: ignore[arg-type]


def test_rows_of_no_format_name_those_that_nearly_fit(place: Any) -> None:
    path = write(place, "rows.jsonl", [{"prompt": "Hi?", "respons": "Yes."}])
    assert refused(place, path=path, want="preference") == (
        "recipe.yaml:data: rows.jsonl has the format prompt (prompt rows), which cannot be "
        "converted to preference rows\n  hint: formats for preference rows: hh, implicit-preference, "
        "implicit-preference-text, preference, preference-messages, ranking, ranking-by-rank, "
        "sharegpt-preference, ultrafeedback"
    )
    path = write(place, "other.jsonl", [{"instruction": "Hi?", "respons": "Yes."}])
    assert refused(place, path=path) == (
        "recipe.yaml:data: the rows of other.jsonl match no known format; their columns are "
        "instruction, respons\n  hint: nearest: alpaca lacks output; instances lacks instances; "
        "ultrafeedback lacks completions; rename columns with `columns: {instruction: …}`"
    )


def test_an_unknown_format_a_wrong_column_and_one_that_is_taken_are_named(place: Any) -> None:
    path = write(place, "rows.jsonl", [{"question": "Hi?", "answer": "Yes."}])
    assert refused(place, path=path, format="alpacca") == (
        "recipe.yaml:data: there is no data format 'alpacca'\n  hint: did you mean 'alpaca'?"
    )
    assert refused(place, path=path, columns={"questoin": "prompt", "question": "answer"}) == (
        "recipe.yaml:data: rows.jsonl has no column 'questoin'\n"
        "  hint: did you mean 'question'?\n"
        "recipe.yaml:data: rows.jsonl has a column 'answer' already\n"
        "  hint: rename that one too: `columns: {answer: other}`"
    )


def test_rows_that_fit_two_formats_must_be_told_apart(place: Any) -> None:
    row = {"question": "Hi?", "answer": "Yes."} | GOOD
    path = write(place, "rows.jsonl", [row])
    assert refused(place, path=path) == (
        "recipe.yaml:data: the rows of rows.jsonl match prompt-completion and question-answer\n"
        "  hint: choose one with `format: prompt-completion`"
    )


MALFORMED: list[tuple[Any, str]] = [
    ({"messages": []}, "field 'messages' has no turns"),
    ({"messages": [3]}, "field 'messages[0]' should be a turn with role and content, not the number 3"),
    (
        {"messages": [{"role": "humen", "content": "Hi?"}]},
        "field 'messages[0].role': unknown role 'humen'\n  hint: did you mean 'human'?",
    ),
    (
        {"messages": [{"role": None, "content": "Hi?"}]},
        "field 'messages[0].role' should be a role, not null",
    ),
    (
        {"messages": [{"role": "user", "content": None}]},
        "field 'messages[0].content' should be text, not null",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image", "url": "file:///etc/passwd"}]}]},
        "field 'messages[0].content[0]' is of type 'image', not text\n"
        "  hint: text, reasoning and tool_call can be read",
    ),
    (
        {"messages": [{"role": "user", "content": "Hi?", "weight": 0.5}]},
        "field 'messages[0].weight' should be 0 or 1, not the number 0.5",
    ),
    (
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"nam": "f"}]}]},
        "field 'messages[0].tool_calls' should be a call with name and arguments, not an object with 'nam'",
    ),
    (
        {"messages": [{"role": "user", "content": "Hi?"}], "tools": "[{]"},
        "field 'tools' should contain JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 3 (char 2)",
    ),
    (
        {"messages": [{"role": "user", "content": "half \ud800"}]},
        "field 'messages[0].content' contains '\\ud800', half of a surrogate pair",
    ),
    ({"other": 1}, "field 'messages' is missing\n  hint: messages rows need it; the row has other"),
    (7, "a row should be an object, not the number 7"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "message"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_row_is_named_with_file_line_and_field(
    place: Any, row: Any, message: str
) -> None:
    good = {
        "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]
    }
    path = write(place, "rows.jsonl", [good, good, row, good])
    assert refused(place, path=path) == f"rows.jsonl:3: {message}"


def test_many_malformed_rows_are_named_up_to_twenty_and_counted(place: Any) -> None:
    path = write(place, "rows.jsonl", [GOOD] * 30 + [{"prompt": "", "completion": "x"}] * 25)
    named = "".join(f"rows.jsonl:{line}: field 'prompt' is empty\n" for line in range(31, 51))
    assert refused(place, path=path) == named + (
        "rows.jsonl: 25 of 55 rows are malformed, 5 more than are named here\n"
        "  hint: correct them, or leave them out with `on_bad_row: skip`"
    )


def test_malformed_rows_are_skipped_counted_and_kept_when_asked(place: Any) -> None:
    path = write(
        place, "rows.jsonl", json.dumps(GOOD) + '\n{"prompt": \n{"prompt": "", "completion": 1}\n'
    )
    loaded = accepted(place, path=path, on_bad_row="skip")
    assert len(loaded.rows) == 1
    assert [(item.origin, item.reason, item.row) for item in loaded.skipped] == [
        ("rows.jsonl:2", "not JSON: Expecting value at column 12", None),
        ("rows.jsonl:3", "field 'prompt' is empty", {"prompt": "", "completion": 1}),
    ]
    assert loaded.ledger.describe() == (
        "rows.jsonl: 3 rows read, written as prompt-completion; 1 used\n"
        "  1 skipped: not JSON: Expecting value at column 12 (rows.jsonl:2)\n"
        "  1 skipped: field 'prompt' is empty (rows.jsonl:3)"
    )


BROKEN: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b"", "a.jsonl: the file is empty"),
    ("a.json", b"\xef\xbb\xbf \r\n", "a.json: the file is blank"),
    ("a.json", b"[]", "a.json: the file has no rows"),
    (
        "a.json",
        b'{"data": [{"text": "x"}]}',
        "a.json: the file contains one object ('data'), not rows\n"
        "  hint: write a list of objects, or one object a line: the content of 'data'",
    ),
    ("a.json", b'[{"text": "x"},\n{"text": }]', "a.json:2: not JSON: Expecting value at column 10"),
    (
        "a.jsonl",
        b'[{"text": "x"},\n {"text": "y"}]',
        "a.jsonl: a JSON array where lines were expected\n"
        "  hint: call the file .json, or write one object a line",
    ),
    (
        "a.jsonl",
        b'{"text": "x"}\n{"text": "\xff"}\n',
        "a.jsonl:2: byte 0xff is not UTF-8\n  hint: save the file as UTF-8",
    ),
    ("a.txt", "text".encode("utf-16"), "a.txt: the file is UTF-16\n  hint: save it as UTF-8"),
    ("a.jsonl", b"[" * 100_000 + b"\n", "a.jsonl:1: not JSON: nested too deeply"),
    ("a.jsonl.gz", b"not packed", "a.jsonl.gz: the .gz file cannot be unpacked: Not a gzipped file (b'no')"),
    (
        "a.jsonl.gz",
        gzip.compress(b'{"text": "x"}\n' * 99)[:40],
        "a.jsonl.gz: the .gz file cannot be unpacked: Compressed file ended before the "
        "end-of-stream marker was reached",
    ),
    (
        "a.csv",
        b"prompt,completion\nHi?,Yes.,No.\n",
        "a.csv:2: 3 cells where there are 2 columns",
    ),
    (
        "a.pkl",
        b"\x80\x04.",
        "a.pkl: no reader for files called .pkl\n  hint: known: .arrow, .csv, .json, .jsonl, .md, "
        ".ndjson, .parquet, .tsv, .txt, packed or not",
    ),
    (
        "a.parquet",
        b"PAR1nonsense",
        "a.parquet: not a Parquet file: Parquet magic bytes not found in footer. Either the file is "
        "corrupted or this is not a parquet file.",
    ),
    (
        "a.arrow",
        b"nonsense",
        "a.arrow: not an Arrow file: Expected to read 1936617326 metadata bytes, but only read 4",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_refused(place: Any, name: str, content: bytes, message: str) -> None:
    assert refused(place, path=write(place, name, content), want="text") == message


def test_a_missing_file_suggests_its_neighbor(place: Any) -> None:
    write(place, "train.jsonl", [GOOD])
    assert refused(place, path="trian.jsonl") == (
        "recipe.yaml:data: no file or folder 'trian.jsonl'\n  hint: did you mean 'train.jsonl'?"
    )
    assert refused(place, path="none/*.jsonl") == (
        f"recipe.yaml:data: no file matches 'none/*.jsonl'\n  hint: looked in {place.recipe_folder}/none"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "data is not read from 'file:///etc/passwd'"),
        ("http://example.com/a.json", "data is not read from 'http://example.com/a.json'"),
        ("zip://a.json::https://example.com/a.zip", "data is not read from 'zip://a.json::https://example.com/a.zip'"),
    ],
)  # fmt: skip
def test_urls_of_other_kinds_are_not_opened(place: Any, url: str, message: str) -> None:
    hint = "write a local path as it is; URLs may begin with https, s3, gs, gcs, az, abfs, hf"
    assert refused(place, path=url) == f"recipe.yaml:data: {message}\n  hint: {hint}"


def test_link_local_addresses_are_not_opened(place: Any) -> None:
    assert refused(place, path="https://169.254.169.254/latest/x.json") == (
        "recipe.yaml:data: data is not read from the link-local address '169.254.169.254'"
    )


def test_a_url_that_cannot_be_read_says_why(place: Any) -> None:
    assert refused(place, path="memory://nowhere/a.jsonl") == (
        "recipe.yaml:data: cannot read memory://nowhere/a.jsonl: FileNotFoundError: /nowhere/a.jsonl"
    )


def test_a_folder_of_several_formats_asks_for_a_glob(place: Any) -> None:
    folder = place.recipe_folder / "data"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.csv", "README.md"):
        (folder / name).write_text(json.dumps(GOOD))
    assert refused(place, path="data") == (
        "recipe.yaml:data: the folder 'data' has files of several formats (1 .csv, 2 .jsonl)\n"
        "  hint: give a glob, such as 'data/*.csv'"
    )
    assert [row.origin for row in accepted(place, path="data/*.jsonl").rows] == [
        "data/a.jsonl:1",
        "data/b.jsonl:1",
    ]


def test_the_hub_is_clear_about_having_no_network(place: Any, monkeypatch: Any) -> None:
    import datasets

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'x/y' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    assert refused(place, hub="x/y") == (
        "recipe.yaml:data: the hub data set 'x/y' cannot be read: ConnectionError: Couldn't reach "
        "'x/y' on the Hub (OfflineModeIsEnabled)\n"
        "  hint: without a network, download it first and give the folder as `path`"
    )


class Counted(DataSource):
    """Rows that count."""

    name = "counted"

    class Options(ExtensionOptions):
        rows: int = 2
        """How many."""

    def rows(self) -> Any:
        yield from ({"text": f"row {n}"} for n in range(self.options.rows))


def test_a_plugins_source_is_checked_against_its_options(place: Any) -> None:
    place.registry = Registry(data_sources={"counted": Counted})
    loaded = accepted(place, want="text", source="counted", options={"rows": 3})
    assert [row.origin for row in loaded.rows] == ["counted[0]", "counted[1]", "counted[2]"]
    assert refused(place, want="text", source="countd") == (
        "recipe.yaml:data: no plugin offers a data source 'countd'\n  hint: did you mean 'counted'?"
    )
    assert refused(place, want="text", source="counted", options={"row": 3}) == (
        "recipe.yaml:data: data source 'counted': option 'row' is invalid\n  hint: did you mean 'rows'?"
    )


def test_faults_of_all_data_sets_are_told_together(place: Any) -> None:
    write(place, "a.jsonl", "")
    specs = [DataSpec(path="a.jsonl"), DataSpec(path="b.jsonl")]
    with pytest.raises(AlignerError) as error:
        load_rows(specs, want="text", context=place, option="data")
    assert str(error.value) == (
        "a.jsonl: the file is empty\n"
        "recipe.yaml:data: no file or folder 'b.jsonl'\n  hint: did you mean 'a.jsonl'?"
    )


def test_pairs_that_are_none_are_dropped_by_reason(place: Any) -> None:
    def transcript(asked: str, output: str) -> str:
        return f"\n\nHuman: {asked}\n\nAssistant: {output}"

    pairs = [("a", "b", "a", "c"), ("a", "b", "x", "c"), ("a", "b", "a", "b"), ("a", "", "a", "b"),
             ("a", "c", "a", "b")]  # fmt: skip
    rows = [{"chosen": transcript(p, c), "rejected": transcript(q, r)} for p, c, q, r in pairs]
    loaded = accepted(place, want="preference", path=write(place, "p.jsonl", rows))
    assert loaded.ledger.describe() == (
        "p.jsonl: 5 rows read, written as hh; 2 used\n"
        "  1 dropped: the prompts of chosen and rejected differ (p.jsonl:2)\n"
        "  1 dropped: chosen and rejected are identical (p.jsonl:3)\n"
        "  1 dropped: an answer is empty (p.jsonl:4)\n"
        "  1 contradict another row's preference (p.jsonl:5)"
    )


def test_what_is_read_decides_the_hash_and_where_it_lies_does_not(
    place: Any, tmp_path: Path
) -> None:
    path = write(place, "a.jsonl", [GOOD])
    first = accepted(place, path=path).hash
    write(place, "b.jsonl", [GOOD])
    assert accepted(place, path="b.jsonl").hash == first
    write(place, "c.jsonl", [GOOD, GOOD])
    assert accepted(place, path="c.jsonl").hash != first
    assert accepted(place, path="a.jsonl", format="prompt-completion").hash != first


def test_one_prompt_is_never_on_both_sides_and_new_rows_move_none(place: Any) -> None:
    rows = [{"prompt": f"question {n % 40}", "completion": f"answer {n}"} for n in range(200)]
    loaded = accepted(place, path=write(place, "a.jsonl", rows))
    train, held = hold_out(loaded.rows, 0.3)
    assert len(train) + len(held) == 200
    assert held
    prompts = [{row.messages[0]["content"] for row in side} for side in (train, held)]  # type: ignore[attr-defined]
    assert not prompts[0] & prompts[1]
    more = accepted(
        place, path=write(place, "b.jsonl", [{"prompt": "new", "completion": "x"}, *rows])
    )
    _, held_of_more = hold_out(more.rows, 0.3)
    assert {str(r.messages) for r in held} <= {str(r.messages) for r in held_of_more}  # type: ignore[attr-defined]


def test_a_prompt_stays_on_its_side_whatever_its_system_turn_and_kind(place: Any) -> None:
    def asked(n: int, system: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": f"question {n}"}]

    answer = {"role": "assistant", "content": "yes"}
    plain = [{"prompt": f"question {n}", "chosen": "yes", "rejected": "no"} for n in range(50)]
    with_system = [{"messages": [*asked(n, f"be {n}"), answer]} for n in range(50)]
    pairs = accepted(place, want="preference", path=write(place, "a.jsonl", plain)).rows
    talks = accepted(place, path=write(place, "b.jsonl", with_system)).rows
    held = [{row.origin.split(":")[1] for row in hold_out(rows, 0.3)[1]} for rows in (pairs, talks)]
    assert held[0] == held[1] != set()


def test_names_out_of_the_data_cannot_write_to_the_terminal(place: Any) -> None:
    path = write(place, "a.jsonl", [{"a\x1b[2J\nerror": 1, "b" * 99: 2}])
    assert refused(place, path=path) == (
        "recipe.yaml:data: the rows of a.jsonl match no known format; their columns are "
        f"a\\x1b[2J\\nerror, {'b' * 40}…\n"
        "  hint: rename columns with `columns: {a\\x1b[2J\\nerror: …}`"
    )
    labels = [{"text": "x", "label": "\x1b[2J"}]
    loaded = accepted(place, want="class", path=write(place, "b.jsonl", labels))
    assert loaded.ledger.describe().endswith("\n  1 \\x1b[2J")


def test_prompts_that_ask_nothing_are_dropped(place: Any) -> None:
    turns = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]
    rows = [{"prompt": turns}, {"prompt": turns[:1]}]
    loaded = accepted(place, want="prompt", path=write(place, "a.jsonl", rows))
    assert {reason: count.first for reason, count in loaded.ledger.dropped.items()} == {
        "there is no question": ("a.jsonl:1",)
    }
