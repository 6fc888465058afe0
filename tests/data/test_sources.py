"""The same rows are read from every kind of file, packed or not, and from saved folders and URLs."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from typing import Any

import datasets
import fsspec
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from aligner.data.options import DataSpec
from aligner.data.reading.load import LoadedRows, load_rows

ROWS = [{"prompt": "Hi, you?", "completion": "Yes\nsir."}, {"prompt": "Ho?", "completion": 'N"o.'}]
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def contents(loaded: LoadedRows) -> list[list[str]]:
    return [[m["content"] for m in row.messages] for row in loaded.rows]  # type: ignore[attr-defined]


def read(place: Any, path: str, want: Any = "conversation", **options: Any) -> LoadedRows:
    return load_rows([DataSpec(path=path, **options)], want=want, context=place, option="data")


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson"])
def test_json_is_read_packed_or_not(place: Any, kind: str, packing: str) -> None:
    text = json.dumps(ROWS) if kind == "json" else "\r\n".join(map(json.dumps, ROWS))
    data = PACKED[packing](b"\xef\xbb\xbf" + text.encode())
    (place.recipe_folder / f"a.{kind}{packing}").write_bytes(data)
    loaded = read(place, f"a.{kind}{packing}")
    assert contents(loaded) == [list(row.values()) for row in ROWS]
    ends = ["[0]", "[1]"] if kind == "json" else [":1", ":2"]
    assert [row.origin for row in loaded.rows] == [f"a.{kind}{packing}{end}" for end in ends]


def test_json_lines_in_a_file_called_json_are_read(place: Any) -> None:
    (place.recipe_folder / "a.json").write_text("\n".join(map(json.dumps, ROWS)))
    assert len(read(place, "a.json").rows) == 2


def test_line_ends_inside_a_text_do_not_end_its_row(place: Any) -> None:
    row = {"text": "a\u2028b\x85c"}
    (place.recipe_folder / "a.jsonl").write_text(json.dumps(row, ensure_ascii=False))
    assert read(place, "a.jsonl", "text").rows[0].text == row["text"]  # type: ignore[attr-defined]


def test_csv_names_the_line_a_row_starts_at(place: Any) -> None:
    text = 'prompt,completion\r\n"Hi, you?","Yes\nsir."\r\n\r\nHo?,"N""o."\r\n'
    (place.recipe_folder / "a.csv").write_text(text, newline="")
    loaded = read(place, "a.csv")
    assert contents(loaded) == [list(row.values()) for row in ROWS]
    assert [row.origin for row in loaded.rows] == ["a.csv:2", "a.csv:5"]


NAMELESS = {"header": False, "columns": {"column1": "text", "column2": "label"}}


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("it is good\t1\nit is bad\t0\nit is \"so\" so\t0\nit is fine\t1\n", {}, ["1", "0", "0", "1"]),
        ("sentence\tlabel\nit is good\t1\nit is bad\t0\n", {}, ["1", "0"]),
        ("yes\tno\nno\tyes\n", NAMELESS, ["no", "yes"]),
    ],
)  # fmt: skip
def test_tables_with_and_without_names_are_told_apart(
    place: Any, text: str, options: dict[str, Any], expected: list[str]
) -> None:
    (place.recipe_folder / "a.tsv").write_text(text)
    assert [row.label for row in read(place, "a.tsv", "class", **options).rows] == expected  # type: ignore[attr-defined]


def test_parquet_and_arrow_do_not_add_keys_that_a_row_does_not_have(place: Any) -> None:
    def row(arguments: dict[str, Any]) -> dict[str, Any]:
        call = {"function": {"name": "f", "arguments": arguments}}
        asked = {"role": "user", "content": "Hi?"}
        return {"messages": [asked, {"role": "assistant", "content": "", "tool_calls": [call]}]}

    table = pyarrow.Table.from_pylist([row({"a": 1}), row({"b": 2})])
    pyarrow.parquet.write_table(table, place.recipe_folder / "a.parquet")
    path = str(place.recipe_folder / "a.arrow")
    with pyarrow.OSFile(path, "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "a.arrow"):
        calls = [row.messages[1]["tool_calls"][0] for row in read(place, name).rows]  # type: ignore[attr-defined]
        assert [call["function"]["arguments"] for call in calls] == [{"a": 1}, {"b": 2}]


def test_a_saved_datasets_folder_is_read_by_its_split(place: Any) -> None:
    made = datasets.Dataset.from_list(ROWS)
    folder = place.recipe_folder / "saved"
    datasets.DatasetDict({"train": made, "test": made.select([1])}).save_to_disk(str(folder))
    assert contents(read(place, "saved")) == [list(row.values()) for row in ROWS]
    assert contents(read(place, "saved", split="test")) == [list(ROWS[1].values())]
    made.save_to_disk(str(place.recipe_folder / "one"))
    assert len(read(place, "one").rows) == 2


def test_a_url_is_read_through_fsspec(place: Any) -> None:
    with fsspec.open("memory://aligner/a.jsonl", "wb") as file:
        file.write("\n".join(map(json.dumps, ROWS)).encode())
    loaded = read(place, "memory://aligner/a.jsonl")
    assert [row.origin for row in loaded.rows] == [f"memory://aligner/a.jsonl:{n}" for n in (1, 2)]


def test_the_hub_is_asked_for_the_revision_and_split(place: Any, monkeypatch: Any) -> None:
    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> Any:
        asked.append((names, options))
        return iter(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    spec = DataSpec(hub="x/y", revision="abc", subset="en", split="test", first=1)
    loaded = load_rows([spec], want="conversation", context=place, option="data")
    assert asked == [
        (("x/y",), {"name": "en", "revision": "abc", "split": "test", "streaming": True})
    ]
    assert [row.origin for row in loaded.rows] == ["x/y[0]"]


STORIES = "Once.\n\nTwice,\nand more.\n<|endoftext|>\nThrice.\n<|endoftext|>\n"


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ("auto", [("Once.\n\nTwice,\nand more.", 1), ("Thrice.", 6)]),
        ("line", [("Once.", 1), ("Twice,", 3), ("and more.", 4), ("<|endoftext|>", 5),
                  ("Thrice.", 6), ("<|endoftext|>", 7)]),
        ("paragraph", [("Once.", 1), ("Twice,\nand more.\n<|endoftext|>\nThrice.\n<|endoftext|>", 3)]),
        ("file", [(STORIES.strip(), 1)]),
    ],
)  # fmt: skip
def test_plain_text_is_parted_as_asked(place: Any, documents: str, expected: Any) -> None:
    (place.recipe_folder / "a.txt").write_text(STORIES)
    rows = read(place, "a.txt", "text", documents=documents).rows
    assert [(r.text, r.origin) for r in rows] == [(t, f"a.txt:{n}") for t, n in expected]  # type: ignore[attr-defined]


def test_only_the_first_rows_are_read_when_asked(place: Any) -> None:
    (place.recipe_folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\nnot json\n")
    assert len(read(place, "a.jsonl", first=2).rows) == 2
