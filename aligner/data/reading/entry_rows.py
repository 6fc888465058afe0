"""Read the rows of one data entry: opened, renamed, converted, cleared of unusable rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain, islice

from aligner.data.context import DataContext
from aligner.data.ledger import Tally
from aligner.data.options import DataSpec
from aligner.data.reading.columns import ColumnRenames
from aligner.data.reading.convert_row import convert_row
from aligner.data.reading.format_detection import DETECTION_ROWS, detect_format
from aligner.data.reading.operations import apply_entry_operations, entry_determinants
from aligner.data.reading.row_checks import drop_unusable
from aligner.data.reading.row_conversion import DifferentPromptsError
from aligner.data.reading.selection import select_rows
from aligner.data.reading.skipped_rows import SkippedRow
from aligner.data.reading.sources import OpenedRows, open_rows
from aligner.data.reading.step_datasets import step_dataset_hash
from aligner.data.reading.tables import RawRow
from aligner.data.rows import Row
from aligner.errors import AlignerError, DataError, ErrorGroup
from aligner.registry import DataFormat, RowKind

NAMED = 20
"""Number of malformed rows that are reported one by one; the others are only counted."""

# The content that is read determines the rows, not its location: moved data is the same data.
_LOCATION = {"path", "hub", "revision", "subset", "split", "source", "options", "step"}


class EntryRows:
    """The rows of one data entry, and the account of them."""

    def __init__(self, spec: DataSpec, want: RowKind, context: DataContext, option: str) -> None:
        self.spec = spec
        self.tally = Tally()
        self.read = 0
        self.format = ""
        self.skipped: list[SkippedRow] = []
        self._want, self._context, self._option = want, context, option
        self._reading: OpenedRows | None = None

    @property
    def reading(self) -> OpenedRows:
        if self._reading is None:
            self._reading = open_rows(self.spec, self._context, self._option)
        return self._reading

    @property
    def is_forecast(self) -> bool:
        """True if the rows only stand for those of a step that has not run: none may be left out."""
        return (
            self.spec.step is not None and step_dataset_hash(self.spec.step, self._context) is None
        )

    @property
    def determining(self) -> str:
        """Options that decide which rows are made of what is read."""
        fields = set(DataSpec.model_fields) - _LOCATION
        options = self.spec.model_dump_json(include=fields)
        operations = entry_determinants(self.spec, self._context, self._option)
        return f"{options} {self._want} {operations}".rstrip()

    @property
    def hash(self) -> str:
        content = f"{self.reading.hash()} {self.determining}"
        return hashlib.sha256(content.encode()).hexdigest()

    def rows(self) -> Iterator[Row]:
        """Return the rows after the entry's operations and selection; forecast rows as they are."""
        rows = self._usable_rows()
        if self.is_forecast:
            return rows
        rows = apply_entry_operations(
            rows, self.spec, "entry", self.tally, context=self._context, option=self._option
        )
        return select_rows(rows, self.spec, self._context.seed, self.tally)

    def _usable_rows(self) -> Iterator[Row]:
        columns = ColumnRenames(self.spec, self._context.at(self._option))
        raw = self._counted(columns)
        head = list(islice(raw, DETECTION_ROWS))
        if len(head) < DETECTION_ROWS or columns.clash:
            _use_up(raw)
            columns.raise_if_any()
        looked_at = [(origin, columns.renamed(row)) for origin, row in head]
        try:
            chosen = detect_format(looked_at, self.spec, self._want, self._context, self._option)
        except AlignerError:
            # A name that is wrong says more than the format that is not found for it.
            _use_up(raw)
            columns.raise_if_any()
            raise
        self.format = chosen.name
        renamed = ((origin, columns.renamed(row)) for origin, row in chain(head, raw))
        yield from self._converted(renamed, chosen, columns)

    def _counted(self, columns: ColumnRenames) -> Iterator[RawRow]:
        for origin, row in self.reading.rows:
            self.read += 1
            columns.see(row)
            yield origin, row

    def _converted(
        self, raw: Iterator[RawRow], chosen: DataFormat, columns: ColumnRenames
    ) -> Iterator[Row]:
        stops = self.spec.on_bad_row == "stop"
        first: list[AlignerError] = []
        malformed = 0
        for origin, row in raw:
            try:
                made = list(drop_unusable(convert_row(row, origin, chosen, self._want), self.tally))
            except DifferentPromptsError as error:
                self.tally.drop(error.what, origin)
            except DataError as error:
                malformed += 1
                if stops:
                    first += [error] if len(first) < NAMED else []
                else:
                    written = None if isinstance(row, DataError) else row
                    self.tally.skip(error.what, origin)
                    self.skipped.append(SkippedRow(origin, error.what, written))
            else:
                if not first:
                    yield from made
        columns.raise_if_any()
        if first:
            raise ErrorGroup(_first_few(first, malformed, self.spec, self.read))


def _use_up(raw: Iterator[RawRow]) -> None:
    for _ in raw:
        pass


def _first_few(
    first: list[AlignerError], malformed: int, spec: DataSpec, rows: int
) -> list[AlignerError]:
    if malformed == 1:
        return first
    others = malformed - len(first)
    what = f"{malformed} of {rows} rows are malformed" + (
        f", {others} more than are named here" if others > 0 else ""
    )
    hint = "correct them, or leave them out with `on_bad_row: skip`"
    return [*first, DataError(what, where=spec.named, hint=hint)]
