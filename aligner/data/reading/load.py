"""Load data sets as rows of the kind a stage needs, one after the other, every row accounted for."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from aligner.data.context import DataContext
from aligner.data.ledger import Ledger, Tally, merge_counts
from aligner.data.options import DataOptions, DataSpec
from aligner.data.reading.cross_row_checks import CrossRowChecks
from aligner.data.reading.entry_rows import EntryRows
from aligner.data.reading.format_detection import detect_any_format
from aligner.data.reading.operations import (
    NamedOperation,
    apply_operation,
    operation_context,
    operations_of,
    with_named_operations,
)
from aligner.data.reading.skipped_rows import SkippedRow
from aligner.data.reading.step_datasets import step_rows_hash
from aligner.data.row_keys import prompt_key
from aligner.data.rows import Row
from aligner.errors import AlignerError, ErrorCollector
from aligner.registry import RowKind


@dataclass(frozen=True, kw_only=True)
class LoadedRows:
    """Rows of one kind in memory, and the account of them."""

    rows: tuple[Row, ...]
    hash: str
    """SHA-256 of the content that was read and of the options that determine the rows."""
    ledger: Ledger
    skipped: tuple[SkippedRow, ...] = ()


def load_rows(
    specs: Sequence[DataSpec], *, want: RowKind, context: DataContext, option: str
) -> LoadedRows:
    """Read the rows of `specs`, one data set after the other, as rows of the kind `want`.

    A process reads them once: `context.memo` keeps them.

    Raises:
        DataError: data is missing, malformed, of no known format or of the wrong kind; all errors of
            all specs together, each with its file and line, or at `option` of the recipe.
    """
    written = [f"{spec.model_dump_json()} {step_rows_hash(spec, context)}" for spec in specs]
    key = f"rows {want} {context.recipe_folder} {written}"
    if key not in context.memo:
        stream = RowStream(specs, want=want, context=context, option=option)
        rows, skipped = tuple(stream.rows()), tuple(stream.skipped)
        context.memo[key] = LoadedRows(
            rows=rows, hash=stream.hash, ledger=stream.ledger(), skipped=skipped
        )
    loaded: LoadedRows = context.memo[key]
    return loaded


class RowStream:
    """Rows of one option, read one at a time, and the account of them.

    Args:
        specs: Data sets to read, one after the other.
        want: Kind of the rows.
        context: Start of relative paths, and lines of the recipe for errors.
        option: Option of the recipe that names the data.
        options: Options of the step, for its row operations; without them none are applied.
    """

    def __init__(
        self,
        specs: Sequence[DataSpec],
        *,
        want: RowKind,
        context: DataContext,
        option: str,
        options: DataOptions | None = None,
    ) -> None:
        self.entry = 0
        """Index of the data set of the last row."""
        typed = [with_named_operations(spec, context) for spec in specs]
        self._entries = [EntryRows(spec, want, context, option) for spec in typed]
        self._context, self._option, self._options = context, option, options
        self._checks = CrossRowChecks()

    def known(self) -> list[str] | None:
        """Return everything that decides the rows and their origins; None if that needs reading them."""
        parts: list[str] = []
        for entry in self._entries:
            try:
                content = entry.reading.known()
            except AlignerError:
                return None  # reported with all other errors when the rows are read
            if content is None:
                return None
            names = (entry.spec.named, *entry.reading.names)
            parts += [content, entry.determining, *names]
        return parts

    def rows(self) -> Iterator[Row]:
        """Yield all rows, once.

        Raises:
            DataError: as `load_rows` does, after all rows have been read; none follows an error.
        """
        errors = ErrorCollector()
        rows = self._entry_rows(errors)
        # Evaluation data remains as it is, and forecast rows only stand for rows to come.
        forecast = any(entry.is_forecast for entry in self._entries)
        if self._options is not None and self._option == "data" and not forecast:
            rows = apply_step_operations(rows, self._options, self._checks.tally, self._context)
        for row in rows:
            if not errors.found:
                self._checks.see(row)
                yield row
        errors.raise_if_any()
        self._checks.settle()

    def _entry_rows(self, errors: ErrorCollector) -> Iterator[Row]:
        for number, entry in enumerate(self._entries):
            with errors:
                for row in entry.rows():
                    self.entry = number
                    yield row

    @property
    def specs(self) -> list[DataSpec]:
        return [entry.spec for entry in self._entries]

    @property
    def hash(self) -> str:
        """SHA-256 of what was read and of the options that determine the rows, after all are read."""
        parts = [entry.hash for entry in self._entries]
        return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def skipped(self) -> list[SkippedRow]:
        return [row for entry in self._entries for row in entry.skipped]

    def ledger(self) -> Ledger:
        """Return the account of all rows, after all are read."""
        tallies = [*(entry.tally for entry in self._entries), self._checks.tally]
        counts = {
            part: reduce(merge_counts, (getattr(tally, part) for tally in tallies))
            for part in ("skipped", "dropped", "filtered", "found")
        }
        left_out = (*counts["dropped"].values(), *counts["filtered"].values())
        return Ledger(
            name=", ".join(entry.spec.named for entry in self._entries),
            formats=tuple(entry.format for entry in self._entries),
            read=sum(entry.read for entry in self._entries),
            converted=self._checks.rows + sum(count.rows for count in left_out),
            used=self._checks.rows,
            labels=self._checks.labels,
            skipped=counts["skipped"],
            dropped=counts["dropped"],
            filtered=counts["filtered"],
            found=counts["found"],
            phrases={name: text for tally in tallies for name, text in tally.phrases.items()},
        )


def apply_step_operations(
    rows: Iterator[Row], options: DataOptions, tally: Tally, context: DataContext
) -> Iterator[Row]:
    """Return the rows that the operations of a step make of the rows of all entries of `data`.

    Raises:
        DataError: an operation cannot be applied, or data to compare with cannot be read.
    """
    for named in operations_of(options, "step"):
        index = None
        if named.operation.compares:
            index = reference_index(named, options, context).index
        where = context.at(named.name)
        rows = apply_operation(rows, named, tally, context=context, where=where, index=index)
    return rows


def stream_any_kind(spec: DataSpec, context: DataContext, option: str) -> RowStream:
    """Return the rows of `spec` in the kind in which they are written.

    Raises:
        DataError: the data is missing, or its rows match no format or several.
    """
    chosen = detect_any_format(spec, context, option)
    named = spec.model_copy(update={"format": chosen.name})
    return RowStream([named], want=chosen.kind, context=context, option=option)


@dataclass(frozen=True)
class ReferenceIndex:
    """The index that an operation made of the data sets to compare with."""

    index: Any
    hash: str
    """SHA-256 of the data sets."""


def reference_index(
    named: NamedOperation, options: DataOptions, context: DataContext
) -> ReferenceIndex:
    """Return the index of `eval_data` and of the data sets in `against`, built once a process.

    Raises:
        DataError: a data set is missing or malformed, or its rows match no format or several.
    """
    own = named.operation.options
    sets = [("eval_data", spec) for spec in options.eval_data or ()]
    sets += [(f"{named.name}.against", spec) for spec in own.against or ()]
    written = " ".join(f"{option} {spec.model_dump_json()}" for option, spec in sets)
    key = f"reference {context.recipe_folder} {context.seed} {named.name} {own.model_dump_json()} {written}"
    if key not in context.memo:
        hashes: list[str] = []

        def references() -> Iterable[Iterator[Row]]:
            for option, spec in sets:
                stream = stream_any_kind(spec, context, option)
                rows = stream.rows()
                yield rows
                deque(rows, maxlen=0)  # the hash is known once all have been read
                hashes.append(stream.hash)

        remaining = iter(references())
        index = named.operation.index(remaining)
        deque(remaining, maxlen=0)
        digest = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
        context.memo[key] = ReferenceIndex(index, digest)
    found: ReferenceIndex = context.memo[key]
    return found


def step_determinants(options: DataOptions, context: DataContext) -> str:
    """Return what decides the rows of a step besides its entries: operations, mixture and order.

    Data sets to compare with count by their content. The result is empty if nothing is asked for.

    Raises:
        DataError: data to compare with cannot be read.
    """
    parts: list[str] = []
    weights = [spec.weight for spec in options.data]
    if options.mixture is not None or options.shuffle or any(weights):
        mixture = options.mixture.model_dump_json() if options.mixture else None
        parts.append(f"{mixture} {options.shuffle} {weights} {context.seed}")
    for named in operations_of(options, "step"):
        surroundings = operation_context(named, Tally(), context, context.at(named.name))
        if named.operation.compares:
            own = named.operation.options.model_dump_json(exclude={"against"})
            content = reference_index(named, options, context).hash
            extra = named.operation.determinants(surroundings)
            parts.append(f"{named.name} {named.plugin} {own} {content} {extra}")
        else:
            parts.append(named.determinants(surroundings))
    return " ".join(parts)


def is_held_out(row: Row, share: float) -> bool:
    """Return True if the row belongs to the held-out `share`, by a hash of its prompt.

    Rows of one prompt are never in both splits, and new rows do not move others.
    """
    digest = hashlib.sha256(prompt_key(row).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
