"""Rows that one step of a chain makes for a later one: stand-ins while it is planned, then the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from aligner.data.context import DataContext
from aligner.data.reading.tables import RawRow
from aligner.errors import ChainError
from aligner.run.durable import hash_file, write_lines
from aligner.stage import SlotForecast, StageOptions
from aligner.state import Artifact

ROWS = "rows.jsonl"


def forecast_rows(rows: Sequence[Mapping[str, Any]], *, made_by: str) -> SlotForecast:
    """What a step says it will leave in the slot `data`.

    Args:
        rows: Stand-ins, as many as there may be at most: true in all that is known already, prompts for
            instance, and short where it is not.
        made_by: The step.
    """
    return SlotForecast(made_by=made_by, facts={"rows": tuple(rows)})


def save_rows(rows: Iterable[Mapping[str, Any]], folder: Path, *, made_by: str) -> Artifact:
    """Write rows, in a format aligner reads, for the slot `data`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / ROWS, rows)
    return Artifact(path=str(folder), hash=hash_file(folder / ROWS), made_by=made_by)


def read_step_rows(step: str, context: DataContext, option: str) -> Iterator[RawRow]:
    """The rows that `step` has made; stand-ins where it has not run yet.

    Raises:
        ChainError: it makes none.
    """
    found = _made(step, context)
    if found is None:
        what = f"step {step!r} does not say which rows it will make"
        raise ChainError(what, where=context.at(option))
    if isinstance(found, Artifact):
        with (Path(found.path) / ROWS).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield f"{step}:{number}", json.loads(line)
    else:
        for number, row in enumerate(found, start=1):
            yield f"{step}:{number}", dict(row)


def step_rows_hash(options: StageOptions, context: DataContext) -> str:
    """SHA-256 of all made rows that `options` name; other for stand-ins than for the real ones."""
    digest = sha256()
    for step in options.rows_from().values():
        found = _made(step, context)
        content = found.hash if isinstance(found, Artifact) else json.dumps(found, default=str)
        digest.update(f"{type(found).__name__} {content}\n".encode())
    return digest.hexdigest()


def step_dataset_hash(step: str, context: DataContext) -> str | None:
    """The hash of the rows that `step` has made; None where it has not run yet."""
    found = _made(step, context)
    return found.hash if isinstance(found, Artifact) else None


def _made(step: str, context: DataContext) -> Artifact | Sequence[Mapping[str, Any]] | None:
    # A running step sees the states that earlier ones left, a planning one what they will leave.
    there = context.past.get(step)
    if there is None:
        return None
    if not isinstance(there, Mapping):
        return there.data  # type: ignore[no-any-return]  # a ModelState
    facts = there["data"].facts if "data" in there else {}
    artifact = facts.get("artifact")
    return artifact if isinstance(artifact, Artifact) else facts.get("rows")
