"""Rows that a step generates for a later one: forecasts while planning, then the real rows."""

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
    """Return the forecast of the slot `data` after a step that generates rows.

    Args:
        rows: Placeholders for the rows, as many as there may be: with the known parts, for example
            prompts, and short texts for the others.
        made_by: Name of the step.
    """
    return SlotForecast(made_by=made_by, facts={"rows": tuple(rows)})


def save_rows(rows: Iterable[Mapping[str, Any]], folder: Path, *, made_by: str) -> Artifact:
    """Write rows in a format that aligner reads, for the slot `data`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / ROWS, rows)
    return Artifact(path=str(folder), hash=hash_file(folder / ROWS), made_by=made_by)


def read_step_rows(step: str, context: DataContext, option: str) -> Iterator[RawRow]:
    """Yield the rows that `step` generated; placeholders if it has not run yet.

    Raises:
        ChainError: it generates none.
    """
    found = _find_rows(step, context)
    if found is None:
        what = f"step {step!r} does not state which rows it will generate"
        raise ChainError(what, where=context.at(option))
    if isinstance(found, Artifact):
        with (Path(found.path) / ROWS).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield f"{step}:{number}", json.loads(line)
    else:
        for number, row in enumerate(found, start=1):
            yield f"{step}:{number}", dict(row)


def step_rows_hash(options: StageOptions, context: DataContext) -> str:
    """Return the SHA-256 of all generated rows that `options` name; placeholders have another one."""
    digest = sha256()
    for step in options.rows_from().values():
        found = _find_rows(step, context)
        content = found.hash if isinstance(found, Artifact) else json.dumps(found, default=str)
        digest.update(f"{type(found).__name__} {content}\n".encode())
    return digest.hexdigest()


def step_dataset_hash(step: str, context: DataContext) -> str | None:
    """Return the hash of the rows that `step` generated; None if it has not run yet."""
    found = _find_rows(step, context)
    return found.hash if isinstance(found, Artifact) else None


def _find_rows(step: str, context: DataContext) -> Artifact | Sequence[Mapping[str, Any]] | None:
    # A running step has the states of earlier steps, a planning one their forecasts.
    there = context.past.get(step)
    if there is None:
        return None
    if not isinstance(there, Mapping):
        return there.data  # type: ignore[no-any-return]  # a ModelState
    facts = there["data"].facts if "data" in there else {}
    artifact = facts.get("artifact")
    return artifact if isinstance(artifact, Artifact) else facts.get("rows")
