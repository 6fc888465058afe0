"""Rows of `ask`, `better` and `worse`, read as preference pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aligner import DataFormat
from aligner.kit.rows import Preference

COLUMNS = ("ask", "better", "worse")


def _recognize(rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(set(COLUMNS) <= set(row) for row in rows)


def _convert(row: Mapping[str, Any]) -> Preference:
    for column in COLUMNS:
        if not isinstance(row[column], str):
            raise ValueError(f"{column!r} is not text")
    return Preference(
        prompt=({"role": "user", "content": row["ask"]},),
        chosen=({"role": "assistant", "content": row["better"]},),
        rejected=({"role": "assistant", "content": row["worse"]},),
    )


BETTER_WORSE = DataFormat(
    name="better-worse", kind="preference", recognize=_recognize, convert=_convert
)
