"""Formats, file endings and limits in docs/data.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from aligner.data.options import DataOptions, DataSpec, Limits
from aligner.data.reading.contents import PACKINGS
from aligner.data.reading.formats import FORMATS
from aligner.data.reading.readers import READABLE
from aligner.data.reading.sources import SCHEMES

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def table(first: str) -> list[list[str]]:
    """The cells of the table whose first column is headed `first`."""
    [rows] = re.findall(rf"^\| {re.escape(first)} \|.*\n\|[-|]*\|\n((?:\|.*\n)+)", PAGE, re.M)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def test_every_format_is_told_with_its_kind_and_columns() -> None:
    report = {name.strip("`"): (kind, columns) for name, kind, columns in table("`format`")}
    assert list(report) == list(FORMATS)
    for name, item in FORMATS.items():
        kind, columns = report[name]
        needed: set[str] = set(item.recognize.needed)  # type: ignore[attr-defined]  # ours have columns
        assert kind == item.kind
        assert needed <= set(re.findall(r"`(\w+)`", columns)), name


def test_every_limit_is_told_with_its_default() -> None:
    report = {name.strip("`"): float(limit) for name, limit, _ in table("finding")}
    assert report == {name: field.default for name, field in Limits.model_fields.items()}


def test_every_ending_is_told() -> None:
    endings = {item for row in table("ends with") for item in re.findall(r"`\.(\w+)`", row[0])}
    assert endings == READABLE
    [packings] = re.findall(r"with a further ending: (.*?) \(", PAGE)
    assert set(re.findall(r"`\.(\w+)`", packings)) == set(PACKINGS)


def test_every_origin_is_told_and_the_example_is_valid() -> None:
    origins = [row[0].strip("`") for row in table("key")]
    assert origins == ["path", "hub", "source", "step"]
    assert set(origins) <= set(DataSpec.model_fields)
    urls = set(re.findall(r"`(\w+)://`", PAGE))
    assert urls <= set(SCHEMES)
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    [step] = yaml.safe_load(example)["steps"]
    assert step.pop("stage") == "sft"
    assert len(DataOptions(**step).data) == 3
