"""Rows flow: any number of them needs the same memory, and what was prepared once is used again."""

from __future__ import annotations

import datetime
import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as some

from aligner import AlignerError, DataSource, Registry
from aligner.data.encoding import pipeline
from aligner.data.encoding.prepare import (
    PreferenceTokens,
    PreparedData,
    SequenceTokens,
    prepare_conversations,
    prepare_preferences,
    prepare_prompts,
    prepare_texts,
)
from aligner.data.options import DataOptions
from aligner.data.reading import contents, entry_rows
from aligner.data.store.cache import Cache
from aligner.data.store.digest_set import DigestSet
from aligner.data.store.lazy_rows import MappedRows, ReorderedRows
from aligner.data.store.row_store import RowStore, RowStoreWriter
from aligner.data.store.token_rows import LabelTokens, PromptTokens
from aligner.train.packing import LanguageRows
from aligner.train.row_dataset import row_dataset

from .conftest import CHATML, Here


def talk(number: int, answer: str = "ok") -> dict[str, Any]:
    turns = [("user", f"how are you {number}?"), ("assistant", answer)]
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def write(folder: Path, name: str, rows: Any) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return name


@pytest.fixture
def marked(bare: Any) -> Any:
    bare.chat_template = CHATML
    return bare


class Counting:
    """Counts the rows that are converted and the rows that are encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.converted = self.encoded = self.hashed = 0
        convert, send, hash_of = (
            entry_rows.convert_row,
            pipeline.EncodeQueue.send,
            contents.hash_chunks,
        )

        def counted(*args: Any) -> Any:
            self.converted += 1
            return convert(*args)

        def sent(line: Any, side: Any, entry: int, rows: list[Any]) -> None:
            self.encoded += len(rows)
            send(line, side, entry, rows)

        def hashed(chunks: Any) -> bytes:
            self.hashed += 1
            return hash_of(chunks)

        monkeypatch.setattr(entry_rows, "convert_row", counted)
        monkeypatch.setattr(pipeline.EncodeQueue, "send", sent)
        monkeypatch.setattr("aligner.data.reading.sources.hash_chunks", hashed)

    def since(self) -> tuple[int, int, int]:
        """Rows converted, rows encoded, files hashed, since the last time."""
        output = (self.converted, self.encoded, self.hashed)
        self.converted = self.encoded = self.hashed = 0
        return output


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


def rows_of(made: PreparedData[Any]) -> list[Any]:
    return [list(made.train), list(made.held_out), dict(made.ledgers), dict(made.hashes), made.hash]


def test_a_second_process_reads_hashes_and_nothing_else(
    tmp_path: Path, marked: Any, counting: Counting
) -> None:
    name = write(tmp_path, "a.jsonl", map(talk, range(30)))
    options = DataOptions(data=name, hold_out=0.3)  # type: ignore[arg-type]
    first = prepare_conversations(Here(tmp_path, cache=tmp_path / "kept"), options, marked)
    assert counting.since() == (30, 30, 1)
    again = prepare_conversations(Here(tmp_path, cache=tmp_path / "kept"), options, marked)
    assert counting.since() == (0, 0, 1)
    assert rows_of(again) == rows_of(first)
    assert len(first.train) + len(first.held_out) == 30


def test_one_preparation_serves_steps_and_recipes_that_want_the_same(
    tmp_path: Path, marked: Any, counting: Counting
) -> None:
    name = write(tmp_path, "a.jsonl", map(talk, range(5)))
    place = Here(tmp_path, cache=tmp_path / "kept")
    prepare_conversations(place, DataOptions(data=name), marked)  # type: ignore[arg-type]
    counting.since()
    # Other limits say only what is too much, not what rows there are.
    other = DataOptions(data=name, limits={"truncated": 0.5})  # type: ignore[arg-type]
    prepare_conversations(place, other, marked)
    assert counting.since() == (0, 0, 0)
    for changed in ({"max_length": 99}, {"hold_out": 0.4}, {"overflow": "stop"}):
        prepare_conversations(place, DataOptions(data=name, **changed), marked)  # type: ignore[arg-type]
        assert counting.since() == (5, 5, 0), changed
    prepare_conversations(place, other, marked, train_on="last")
    assert counting.since() == (5, 5, 0)
    marked.chat_template = CHATML.replace("\n", "\n ")
    prepare_conversations(place, other, marked)
    assert counting.since() == (5, 5, 0)
    write(tmp_path, "a.jsonl", map(talk, range(6)))
    assert len(prepare_conversations(Here(tmp_path, cache=place.cache), other, marked).train) == 6
    assert counting.since() == (6, 6, 1)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "sealed wrongly", "no entry"])
def test_what_was_kept_and_is_damaged_is_made_again(
    tmp_path: Path, marked: Any, counting: Counting, damage: str
) -> None:
    name = write(tmp_path, "a.jsonl", map(talk, range(5)))
    options = DataOptions(data=name)  # type: ignore[arg-type]
    kept = tmp_path / "kept"
    before = rows_of(prepare_conversations(Here(tmp_path, cache=kept), options, marked))
    (entry,) = (item for item in kept.iterdir() if item.name != ".locks")
    rows = entry / "data.arrow"
    data = bytearray(rows.read_bytes())
    if damage == "changed":
        data[len(data) // 2] ^= 1
        rows.write_bytes(data)
    elif damage == "cut":
        rows.write_bytes(data[:-9])
    elif damage == "gone":
        rows.unlink()
    elif damage == "no entry":
        (entry / "entry.json").unlink()
    else:
        about = (entry / "entry.json").read_text()
        (entry / "entry.json").write_text(about.replace('"tokens": ', '"tokens": 1', 1))
    counting.since()
    after = rows_of(prepare_conversations(Here(tmp_path, cache=kept), options, marked))
    assert counting.since() == (5, 5, 1)
    assert after == before


def test_nothing_is_kept_of_data_with_faults(tmp_path: Path, marked: Any) -> None:
    name = write(tmp_path, "a.jsonl", [talk(1), {"messages": []}])
    options = DataOptions(data=name)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(AlignerError) as error:
            prepare_conversations(Here(tmp_path, cache=tmp_path / "kept"), options, marked)
        assert str(error.value) == "a.jsonl:2: field 'messages' has no turns"
    assert [item.name for item in (tmp_path / "kept").iterdir()] == [".locks"]


def test_limits_hold_for_what_was_kept_as_for_what_was_read(tmp_path: Path, marked: Any) -> None:
    name = write(tmp_path, "a.jsonl", [talk(1), talk(2, "long " * 99)])
    output = []
    for cut in (DataOptions(data=name, max_length=60, overflow="stop"),) * 2:  # type: ignore[arg-type]
        with pytest.raises(AlignerError) as error:
            prepare_conversations(Here(tmp_path, cache=tmp_path / "kept"), cut, marked)
        output.append(str(error.value))
    assert output[0] == output[1]
    assert output[0].startswith(
        "recipe.yaml:max_length: 1 rows have more than max_length 60 tokens: "
    )


def test_skipped_rows_are_kept_to_be_saved(tmp_path: Path, marked: Any) -> None:
    name = write(tmp_path, "a.jsonl", [talk(1), {"messages": []}])
    spec = {"path": name, "on_bad_row": "skip"}
    options = DataOptions(data=spec, limits={"skipped": 1})  # type: ignore[arg-type]
    for _ in range(2):
        made = prepare_conversations(Here(tmp_path, cache=tmp_path / "kept"), options, marked)
        (item,) = made.skipped["data"]
        assert len(made.skipped["data"]) == 1
        assert (item.origin, item.row) == ("a.jsonl:2", {"messages": []})
        assert item.reason == "field 'messages' has no turns"


class Drawn(DataSource):
    """Rows that are made up."""

    name = "drawn"
    asked = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        type(self).asked += 1
        yield from ({"text": f"row {n}"} for n in range(7))


def test_rows_of_a_source_are_made_once_more_only_to_be_hashed(
    tmp_path: Path, bare: Any, counting: Counting
) -> None:
    options = DataOptions(data={"source": "drawn"})  # type: ignore[arg-type]
    for converted in (7, 0):
        registry = Registry(data_sources={"drawn": Drawn})
        place = Here(tmp_path, registry, cache=tmp_path / "kept")
        assert len(prepare_texts(place, options, bare).train) == 7
        assert counting.since() == (converted, converted, 0)


def test_what_is_on_the_hub_is_kept_only_by_its_commit(
    tmp_path: Path, bare: Any, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: iter([{"text": "a"}]))
    for revision, again in (("main", 1), ("c0ffee" * 6 + "c0ff", 0)):
        options = DataOptions(data={"hub": "x/y", "revision": revision})  # type: ignore[arg-type]
        for converted in (1, again):
            prepare_texts(Here(tmp_path, cache=tmp_path / "kept"), options, bare)
            assert counting.since() == (converted, converted, 0)


def test_a_url_is_fetched_once_and_only_its_beginning_where_only_that_is_read(
    tmp_path: Path, bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = gzip.compress(b"".join(b'{"text": "row %d"}\n' % n for n in range(9)))
    with fsspec.open("memory://flow/a.jsonl.gz", "wb") as file:
        file.write(lines)
    place = Here(tmp_path)
    whole = prepare_texts(place, DataOptions(data="memory://flow/a.jsonl.gz"), bare)  # type: ignore[arg-type]
    local = tmp_path / "a.jsonl.gz"
    local.write_bytes(lines)
    same = prepare_texts(Here(tmp_path), DataOptions(data="a.jsonl.gz"), bare)  # type: ignore[arg-type]
    assert whole.hash == same.hash
    assert [row.input_ids for row in whole.train] == [row.input_ids for row in same.train]
    some_rows = DataOptions(data={"path": "memory://flow/a.jsonl.gz", "first": 2})  # type: ignore[arg-type]
    first = prepare_texts(Here(tmp_path), some_rows, bare)
    assert [row.origin for row in first.train] == [
        "memory://flow/a.jsonl.gz:1",
        "memory://flow/a.jsonl.gz:2",
    ]


def test_trainers_read_rows_from_the_file_itself(tmp_path: Path, marked: Any) -> None:
    write(tmp_path, "a.jsonl", [talk(number) for number in range(1500)])
    options = DataOptions(data="a.jsonl", shuffle=True, mixture={"rows": 2000})  # type: ignore[arg-type]
    made = prepare_conversations(Here(tmp_path), options, marked)
    before = pyarrow.total_allocated_bytes()
    dataset = row_dataset(LanguageRows(made.train), with_lengths=True)
    assert pyarrow.total_allocated_bytes() - before < 100_000  # numbers and lengths, and no rows
    assert len(dataset) == len(made.train) == 2000
    for number in (0, 999, 1000, 1999):
        row = made.train[number]
        expected = {
            "input_ids": row.input_ids,
            "labels": [
                token if trained else -100
                for token, trained in zip(row.input_ids, row.trained, strict=True)
            ],
            "length": len(row.input_ids),
        }
        assert dataset[number] == expected
    assert len(row_dataset(LanguageRows(made.held_out), with_lengths=False)) == 0


def test_a_temporary_folder_goes_with_what_it_was_for(tmp_path: Path, marked: Any) -> None:
    place = Here(tmp_path)
    write(tmp_path, "a.jsonl", [talk(1)])
    made = prepare_conversations(place, DataOptions(data="a.jsonl"), marked)  # type: ignore[arg-type]
    folder = place.memo["temporary folder"].path
    assert any(folder.iterdir())
    place.memo.clear()
    assert not folder.exists()
    assert made.train[0].origin == "a.jsonl:1"  # what is mapped can be read on


ELSEWHERE = """
import sys
from pathlib import Path
from transformers import PreTrainedTokenizerFast
from tests.data.conftest import Here
from aligner.data.encoding import pipeline
from aligner.data.encoding.prepare import prepare_conversations
from aligner.data.options import DataOptions

sent, send = [], pipeline.EncodeQueue.send
pipeline.EncodeQueue.send = lambda line, side, entry, rows: (sent.extend(rows), send(line, side, entry, rows))
folder = Path(sys.argv[1])
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "words")
place = Here(folder, cache=folder / "kept")
made = prepare_conversations(place, DataOptions(data="a.jsonl"), tokenizer)
print(len(sent), len(made.train), made.hash)
"""


def _begun(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        cwd=root,
    )


def _said(process: subprocess.Popen[str]) -> list[str]:
    output, errors = process.communicate(timeout=200)
    assert not process.returncode, errors
    return output.split()


@pytest.mark.slow
def test_of_two_processes_one_prepares_and_the_other_waits(tmp_path: Path, marked: Any) -> None:
    write(tmp_path, "a.jsonl", map(talk, range(500)))
    marked.save_pretrained(tmp_path / "words")
    output = [_said(item) for item in [_begun(ELSEWHERE, str(tmp_path)) for _ in range(2)]]
    assert sorted(sent for sent, *_ in output) == ["0", "500"]
    assert output[0][1:] == output[1][1:]


def test_an_entry_that_fails_leaves_nothing_and_one_that_is_used_is_young(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "kept")
    key = hashlib.sha256(b"x").hexdigest()

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(AlignerError) as error:
        cache.get(key, fail)
    assert str(error.value) == (
        f"{cache.folder}: the disk is full: prepared data cannot be written\n"
        "  hint: free some space, `aligner runs --prune` may, or put the runs elsewhere"
    )
    assert [item.name for item in cache.folder.iterdir()] == [".locks"]
    folder, about = cache.get(key, lambda folder: {"rows": 3})
    assert about == {"rows": 3}
    os.utime(folder / "entry.json", (0, 0))
    assert cache.get(key, fail) == (folder, about)
    assert (folder / "entry.json").stat().st_mtime > 0


def test_where_nothing_can_be_kept_the_process_keeps_it_for_itself(
    tmp_path: Path, marked: Any
) -> None:
    write(tmp_path, "a.jsonl", [talk(1)])
    (tmp_path / "file").write_text("")
    place = Here(tmp_path, cache=tmp_path / "file" / "kept")
    made = prepare_conversations(place, DataOptions(data="a.jsonl"), marked)  # type: ignore[arg-type]
    assert len(made.train) == 1


def test_a_mixture_takes_rows_more_often_and_says_so(
    tmp_path: Path, marked: Any, counting: Counting
) -> None:
    write(tmp_path, "a.jsonl", map(talk, range(3)))
    write(tmp_path, "b.jsonl", map(talk, range(3, 9)))
    parts = [{"path": "a.jsonl", "weight": 2}, {"path": "b.jsonl", "weight": 1}]
    options = DataOptions(data=parts, mixture={"rows": 12})  # type: ignore[arg-type]
    made = prepare_conversations(Here(tmp_path, cache=tmp_path / "kept"), options, marked)
    names = [row.origin.split(":")[0] for row in made.train]
    assert (names.count("a.jsonl"), names.count("b.jsonl")) == (8, 4)
    ledger = made.ledgers["data"]
    assert ledger.mixture == (
        {"entry": "a.jsonl", "rows": 3, "taken": 8},
        {"entry": "b.jsonl", "rows": 6, "taken": 4},
    )
    assert "\n  mixed in one pass: 8 of a.jsonl (of 3), 4 of b.jsonl (of 6)\n" in ledger.describe()
    assert (ledger.used, ledger.tokens) == (12, sum(len(row.input_ids) for row in made.train))
    assert ledger.trained == made.trained == sum(sum(row.trained) for row in made.train)
    counting.since()
    again = prepare_conversations(Here(tmp_path, cache=tmp_path / "kept"), options, marked)
    assert counting.since() == (0, 0, 2)
    assert rows_of(again) == rows_of(made)


TOKENS = some.lists(some.integers(0, 2**31 - 1), max_size=5)
TEXTS = some.text(max_size=9)


@given(
    some.lists(some.tuples(TOKENS, TEXTS, some.one_of(some.none(), some.floats(-9, 9))), max_size=9)
)
def test_rows_are_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, written: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    forms: dict[type[Any], list[Any]] = {
        SequenceTokens: [
            SequenceTokens(t, [n % 2 == 0 for n in t], tuple(t), o) for t, o, _ in written
        ],
        PreferenceTokens: [
            PreferenceTokens(t, t[1:], t[:1], [True] * len(t[1:]), [False] * len(t[:1]), m, o)
            for t, o, m in written
        ],
        PromptTokens: [
            PromptTokens(
                t,
                ({"role": "user", "content": o},),
                {"answer": m, o: [None, {"x": o}]},
                o,
                None if m is None else ({"name": o},),
            )
            for t, o, m in written
        ],
        LabelTokens: [
            LabelTokens(t, t[1:], m is None, [True] * len(t[1:]), o) for t, o, m in written
        ],
    }
    for form, rows in forms.items():
        path = folder / f"{form.__name__}.arrow"
        writer = RowStoreWriter(path, form)
        sizes = [(len(t), 2 * len(t), 1) for t, _, _ in written]
        writer.write(rows[:4], sizes[:4])
        writer.write(rows[4:], sizes[4:])
        writer.close()
        kept: Any = RowStore(path, form)
        assert list(kept) == rows
        assert [kept[index] for index in range(-len(rows), len(rows))] == rows + rows
        assert kept[1:3] == rows[1:3]
        assert kept.sizes("tokens").tolist() == [two for _, two, _ in sizes]
        with pytest.raises(IndexError):
            kept[len(rows)]
        backwards = ReorderedRows(kept, numpy.arange(len(rows) - 1, -1, -1))
        assert list(backwards) == rows[::-1]
        assert (
            list(MappedRows(backwards, lambda row: row.origin)) == [o for _, o, _ in written][::-1]
        )


@given(some.lists(some.lists(some.integers(0, 40), max_size=9), max_size=9))
def test_what_was_seen_is_known_and_nothing_else(parts: list[list[int]]) -> None:
    seen, plain = DigestSet(), set[int]()
    for part in parts:
        assert seen.has(part) == [item in plain for item in part]
        expected = []
        for item in part:
            expected.append(item in plain)
            plain.add(item)
        assert seen.add(part) == expected


def test_repeats_and_conflicts_are_found_however_far_apart(
    tmp_path: Path, marked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pair(number: int, *answers: str) -> dict[str, Any]:
        sides = zip(("chosen", "rejected"), answers, strict=True)
        return {"prompt": f"a {number}", **dict(sides)}

    rows = [pair(number, "yes", "no") for number in range(20)]
    rows += [pair(3, "no", "yes"), pair(4, "yes", "no"), pair(5, "no", "yes"), pair(5, "no", "yes")]
    for at_once in (1, 3, 1000):
        monkeypatch.setattr("aligner.data.reading.cross_row_checks._AT_ONCE", at_once)
        monkeypatch.setattr(pipeline, "BATCH", at_once)
        write(tmp_path, "a.jsonl", rows)
        options = DataOptions(data="a.jsonl")  # type: ignore[arg-type]
        found = prepare_preferences(Here(tmp_path), options, marked).ledgers["data"].found
        places = {name: found[name].first for name in ("duplicates", "conflicts")}
        assert places == {
            "duplicates": ("a.jsonl:22", "a.jsonl:24"),
            "conflicts": ("a.jsonl:21", "a.jsonl:23", "a.jsonl:24"),
        }


def test_rows_in_many_batches_are_those_of_one(
    tmp_path: Path, marked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [talk(number, "ok " * (number % 40)) for number in range(1, 60)]
    rows[7]["messages"] = rows[7]["messages"][::-1]
    write(tmp_path, "a.jsonl", rows)
    free = {"dropped": 1, "truncated": 1, "role_order": 1}
    for overflow in ("truncate", "turns", "drop"):
        options = DataOptions(
            data="a.jsonl", hold_out=0.3, max_length=60, overflow=overflow, limits=free
        )  # type: ignore[arg-type]
        seen = []
        for at_once in (1, 7, 1000):
            monkeypatch.setattr(pipeline, "BATCH", at_once)
            seen.append(rows_of(prepare_conversations(Here(tmp_path), options, marked)))
        assert seen[0] == seen[1] == seen[2]


def test_a_column_that_comes_late_is_renamed_and_one_that_never_comes_is_named(
    tmp_path: Path, bare: Any
) -> None:
    rows: list[dict[str, Any]] = [{"text": f"{n}"} for n in range(300)]
    rows[250] = {"text": "late", "words": "late"}
    write(tmp_path, "a.jsonl", rows)
    other = DataOptions(data={"path": "a.jsonl", "columns": {"words": "said"}})  # type: ignore[arg-type]
    assert len(prepare_texts(Here(tmp_path), other, bare).train) == 300
    late = DataOptions(data={"path": "a.jsonl", "columns": {"words": "text"}})  # type: ignore[arg-type]
    with pytest.raises(AlignerError) as error:
        prepare_texts(Here(tmp_path), late, bare)
    assert str(error.value) == (
        "recipe.yaml:data: a.jsonl has a column 'text' already\n"
        "  hint: rename that one too: `columns: {text: other}`"
    )
    never = DataOptions(data={"path": "a.jsonl", "columns": {"word": "other"}})  # type: ignore[arg-type]
    with pytest.raises(AlignerError) as error:
        prepare_texts(Here(tmp_path), never, bare)
    assert str(error.value) == (
        "recipe.yaml:data: a.jsonl has no column 'word'\n  hint: did you mean 'words'?"
    )


def test_prompts_keep_their_tools_and_odd_columns_as_text(tmp_path: Path, marked: Any) -> None:
    day = datetime.date(2026, 1, 2)
    table = pyarrow.Table.from_pylist([{"prompt": "Hi?", "tools": '[{"name": "f"}]', "day": day}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    options = DataOptions(data="a.parquet", limits={"left_out": 1})  # type: ignore[arg-type]
    (row,) = prepare_prompts(Here(tmp_path), options, marked).train
    assert row.tools == ({"type": "function", "function": {"name": "f"}},)
    assert row.row == {"day": "2026-01-02"}


MEASURE = """
import json, resource, sys
from pathlib import Path
from tests.data.conftest import CHATML, TEXTS, Here
from aligner.data.encoding.prepare import prepare_conversations
from aligner.data.options import DataOptions
from aligner.data.encoding.tokenizers import train_tokenizer

folder, count = Path(sys.argv[1]), int(sys.argv[2])
tokenizer = train_tokenizer(TEXTS * 20, 400, special=("<|im_start|>", "<|im_end|>"))
tokenizer.chat_template = CHATML
def prepare(rows):
    name = f"{rows}.jsonl"
    with (folder / name).open("w") as file:
        for row in range(rows):
            turns = [("user", f"{row} how are you? " * 6), ("assistant", "1 2 3 4 ok then " * 6)]
            turns = [{"role": role, "content": text} for role, text in turns]
            file.write(json.dumps({"messages": turns}) + "\\n")
    made = prepare_conversations(Here(folder), DataOptions(data=name), tokenizer)
    return sum(len(row.input_ids) for row in made.train)
prepare(1500)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare(count)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_ten_times_the_rows_need_no_more_memory(tmp_path: Path) -> None:
    (more,) = _said(_begun(MEASURE, str(tmp_path), "15000"))
    # Their tokens alone, as lists, would be more than 100 MiB.
    assert float(more) < 40, "MiB more for 15,000 rows than for 1,500"
