"""Parts and samples are found by hashes, so that rows added later move none of the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

import aligner_curation
from aligner.data.options import DataSpec
from aligner.data.reading.kinds import convert_kind
from aligner.data.reading.selection import part_of
from aligner.host import host_of
from tests.data.conftest import Here, hold_out
from tests.data.small_rows import curate, output, pair, plain, talk

PARTS = {"train": 0.8, "validation": 0.1, "test": 0.1}
MANY = [talk(f"question {i}", f"answer {i}", origin=f"{i}") for i in range(2000)]


def test_every_row_is_in_one_part_and_the_parts_have_their_sizes(place: Any) -> None:
    parts = {name: curate(MANY, place, parts=PARTS, part=name)[0] for name in PARTS}
    assert sorted(row.origin for rows in parts.values() for row in rows) == sorted(
        row.origin for row in MANY
    )
    for name, share in PARTS.items():
        assert abs(len(parts[name]) / len(MANY) - share) < 0.03, name


def test_the_order_in_which_parts_are_written_moves_no_row(place: Any) -> None:
    turned = dict(reversed(PARTS.items()))
    assert [part_of(row, PARTS) for row in MANY] == [part_of(row, turned) for row in MANY]


@settings(max_examples=30, deadline=None)
@given(some.integers(0, 300), some.integers(0, 300))
def test_rows_added_anywhere_move_no_others(start: int, added: int) -> None:
    old = MANY[start : start + 100]
    for options in ({"parts": PARTS, "part": "train"}, {"sample": 0.5}):
        few, _ = curate(old, Here(Path()), **options)
        more, _ = curate([*MANY[1000 : 1000 + added], *old], Here(Path()), **options)
        assert [row for row in more if row in old] == few


def test_one_prompts_rows_are_on_one_side_whatever_their_kind() -> None:
    for i in range(200):
        asked = f"question {i}"
        item = pair(asked, "b", "c")
        same = [item, talk(asked, "other"), talk(asked, "b", "and?", "more")]
        same += [
            made for kind in ("prompt", "label") for made in convert_kind(item, "preference", kind)
        ]  # type: ignore[arg-type]
        assert len({part_of(row, PARTS) for row in same}) == 1


def test_what_is_held_out_of_a_part_is_a_share_of_it() -> None:
    train = [row for row in MANY if part_of(row, {"train": 0.5, "test": 0.5}) == "train"]
    _, held = hold_out(train, 0.2)
    assert abs(len(held) / len(train) - 0.2) < 0.05


def test_the_tally_counts_the_rows_of_other_parts(place: Any) -> None:
    rows, tally = curate(MANY[:20], place, parts={"a": 0.5, "b": 0.5}, part="a")
    assert tally.found["other_part"].rows == 20 - len(rows)


def test_a_sample_of_a_share_has_about_its_size_and_keeps_the_order(place: Any) -> None:
    rows, tally = curate(MANY, place, sample=0.25)
    assert abs(len(rows) / len(MANY) - 0.25) < 0.03
    assert [int(row.origin) for row in rows] == sorted(int(row.origin) for row in rows)
    assert tally.found["not_sampled"].rows == len(MANY) - len(rows)


def test_a_sample_of_a_number_has_just_that_many(place: Any) -> None:
    for size in (1, 7, 1999, 2000):
        rows, tally = curate(MANY, place, sample=size)
        assert len(rows) == len({row.origin for row in rows}) == size
        assert [int(row.origin) for row in rows] == sorted(int(row.origin) for row in rows)
        assert tally.found.get("not_sampled", None) is None or (
            tally.found["not_sampled"].rows == 2000 - size
        )
    assert len(curate(MANY, place, sample=5000)[0]) == 2000


def test_another_seed_draws_another_sample(place: Any) -> None:
    first = curate(MANY, place, sample=50)[0]
    assert curate(MANY, place, sample=50)[0] == first
    place.seed = 1
    second = curate(MANY, place, sample=50)[0]
    assert len([row for row in second if row in first]) < 15


def test_a_part_is_cleaned_before_it_is_cut_so_that_equal_rows_stay_together(place: Any) -> None:
    place.registry = host_of([aligner_curation]).registry()
    rows = [talk(f"q{i}{' ' * (i % 3)}", "a") for i in range(50) for _ in range(2)]
    train = output(curate(rows, place, clean=True, parts=PARTS, part="train")[0])
    test = output(curate(rows, place, clean=True, parts=PARTS, part="test")[0])
    assert not {item[0] for item in train} & {item[0] for item in test}


SCRIPT = """
from pathlib import Path
import aligner_curation
from aligner.host import host_of
from tests.data.conftest import Here
from tests.data.small_rows import curate, talk
here = Here(Path(), registry=host_of([aligner_curation]).registry())
rows = [talk(f"q{i}", "a" * i, origin=str(i)) for i in range(60)]
for options in ({"sample": 9}, {"parts": {"a": 0.5, "b": 0.5}, "part": "a"}, {"redact": True, "clean": True}):
    print([row.origin for row in curate(rows, here, **options)[0]])
"""


def test_nothing_depends_on_the_hash_seed_of_the_process() -> None:
    made = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ".:plugins", "HOME": "/tmp"},
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(made) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"part": "a"}, "give part and parts together: the part to read and the size of each"),
        ({"parts": PARTS}, "give part and parts together: the part to read and the size of each"),
        ({"parts": PARTS, "part": "eval"}, "there is no part 'eval' among train, validation, test"),
        ({"parts": {"a": 0.5, "b": 0.4}, "part": "a"}, "the parts sum to 0.9, and must sum to 1"),
        ({"sample": 1.5}, "sample is 1.5: give a share below 1 or a whole number of rows"),
    ],
)
def test_parts_that_make_no_whole_are_refused(options: Any, complaint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DataSpec(path="a", **options)
    assert refused.value.errors()[0]["msg"] == f"Value error, {complaint}"


def test_the_tally_is_empty_where_nothing_is_asked_for(place: Any) -> None:
    rows, tally = curate(MANY[:5], place)
    assert rows == MANY[:5]
    assert (plain(tally.found), plain(tally.filtered)) == ({}, {})
