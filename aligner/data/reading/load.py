"""Load data sets as rows of the kind a stage needs, one after the other, every row accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice

from aligner.data.context import DataContext
from aligner.data.curation.determined import by_entry
from aligner.data.curation.entry import curated
from aligner.data.curation.spec import EntryCuration
from aligner.data.curation.together import curated_together
from aligner.data.ledger import Ledger, Tally, merge_counts
from aligner.data.options import DataOptions, DataSpec
from aligner.data.reading.columns import ColumnRenames
from aligner.data.reading.convert_row import convert_row
from aligner.data.reading.cross_row_checks import CrossRowChecks
from aligner.data.reading.format_detection import DETECTION_ROWS, detect_format
from aligner.data.reading.row_checks import drop_unusable
from aligner.data.reading.row_conversion import DifferentPromptsError
from aligner.data.reading.skipped_rows import SkippedRow
from aligner.data.reading.sources import OpenedRows, open_rows
from aligner.data.reading.step_datasets import step_dataset_hash, step_rows_hash
from aligner.data.reading.tables import RawRow
from aligner.data.row_keys import prompt_key
from aligner.data.rows import Row
from aligner.errors import AlignerError, DataError, ErrorCollector, ErrorGroup
from aligner.registry import DataFormat, RowKind

NAMED = 20
"""Malformed rows that are named one by one before the rest is only counted."""

# Not where it lies, but what is read from it: moved data is the same data.
_PLACE = {"path", "hub", "revision", "subset", "split", "source", "options", "step"}


@dataclass(frozen=True, kw_only=True)
class LoadedRows:
    """Rows of one kind, and the account of where they came from."""

    rows: tuple[Row, ...]
    hash: str
    """SHA-256 of the content that was read and of the options that determine the rows."""
    ledger: Ledger
    skipped: tuple[SkippedRow, ...] = ()


def load_rows(
    specs: Sequence[DataSpec], *, want: RowKind, context: DataContext, option: str
) -> LoadedRows:
    """Read `specs` one after the other, as rows of the kind `want`, all of them into memory.

    They are read once a process: what was loaded is kept in `place.memo`.

    Raises:
        DataError: data is missing, malformed, of no known format or of the wrong kind; all errors of
            all specs together, each with its file and line, or at `option` of the recipe.
    """
    asked = [f"{spec.model_dump_json()} {step_rows_hash(spec, context)}" for spec in specs]
    key = f"rows {want} {context.recipe_folder} {asked}"
    if key not in context.memo:
        flow = RowStream(specs, want=want, context=context, option=option)
        rows, skipped = tuple(flow.rows()), tuple(flow.skipped)
        context.memo[key] = LoadedRows(
            rows=rows, hash=flow.hash, ledger=flow.ledger(), skipped=skipped
        )
    loaded: LoadedRows = context.memo[key]
    return loaded


class RowStream:
    """Rows of one option as they are read, one at a time, and the account of them in the making."""

    def __init__(
        self,
        specs: Sequence[DataSpec],
        *,
        want: RowKind,
        context: DataContext,
        option: str,
        options: DataOptions | None = None,
    ) -> None:
        """Args:
        specs: What is read, one after the other.
        want: The kind of rows to make of it.
        place: Where relative paths start, and where errors point.
        option: What the recipe calls this data.
        options: The step's, for what is done to the rows of all `specs` together.
        """
        self.entry = 0
        """The number of the spec that the last row came from."""
        self._entries = [_Entry(spec, want, context, option) for spec in specs]
        self._place, self._option, self._options = context, option, options
        self._across = CrossRowChecks()

    def known(self) -> list[str] | None:
        """What decides the rows and what they are called, known before any is read; else None."""
        parts: list[str] = []
        for entry in self._entries:
            try:
                content = entry.reading.known()
            except AlignerError:
                return None  # to be told with all else that is wrong, when the rows are read
            if content is None:
                return None
            names = (entry.spec.named, *entry.reading.names)
            parts += [content, entry.determining, *names]
        return parts

    def rows(self) -> Iterator[Row]:
        """All rows, once.

        Raises:
            DataError: as `load` does, when all rows have been read; none is given after an error.
        """
        errors = ErrorCollector()
        rows = self._one_after_the_other(errors)
        if self._options is not None and not any(entry.stands_in for entry in self._entries):
            rows = curated_together(
                rows,
                self._options,
                self._across.tally,
                context=self._place,
                option=self._option,
            )
        for row in rows:
            if not errors.found:
                self._across.see(row)
                yield row
        errors.raise_if_any()
        self._across.settle()

    def _one_after_the_other(self, errors: ErrorCollector) -> Iterator[Row]:
        for number, entry in enumerate(self._entries):
            with errors:
                rows = entry.rows()
                if not entry.stands_in:
                    rows = curated(
                        rows, entry.spec, entry.tally, context=self._place, option=self._option
                    )
                for row in rows:
                    self.entry = number
                    yield row

    @property
    def specs(self) -> list[DataSpec]:
        return [entry.spec for entry in self._entries]

    @property
    def hash(self) -> str:
        """SHA-256 of what was read and of the options that determine the rows, once all are read."""
        parts = [entry.hash for entry in self._entries]
        return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def skipped(self) -> list[SkippedRow]:
        return [one for entry in self._entries for one in entry.skipped]

    def ledger(self) -> Ledger:
        """The account of all rows, once all are read."""
        tallies = [*(entry.tally for entry in self._entries), self._across.tally]
        counts = {
            part: reduce(merge_counts, (getattr(tally, part) for tally in tallies))
            for part in ("skipped", "dropped", "filtered", "found")
        }
        left_out = (*counts["dropped"].values(), *counts["filtered"].values())
        return Ledger(
            name=", ".join(entry.spec.named for entry in self._entries),
            formats=tuple(entry.format for entry in self._entries),
            read=sum(entry.read for entry in self._entries),
            converted=self._across.rows + sum(count.rows for count in left_out),
            used=self._across.rows,
            labels=self._across.labels,
            skipped=counts["skipped"],
            dropped=counts["dropped"],
            filtered=counts["filtered"],
            found=counts["found"],
        )


class _Entry:
    """The rows of one spec."""

    def __init__(self, spec: DataSpec, want: RowKind, context: DataContext, option: str) -> None:
        self.spec = spec
        self.tally = Tally()
        self.read = 0
        self.format = ""
        self.skipped: list[SkippedRow] = []
        self._want, self._place, self._option = want, context, option
        self._reading: OpenedRows | None = None

    @property
    def reading(self) -> OpenedRows:
        if self._reading is None:
            self._reading = open_rows(self.spec, self._place, self._option)
        return self._reading

    @property
    def stands_in(self) -> bool:
        """Whether nothing may be left out for what it says, as it only stands for rows to come."""
        return self.spec.step is not None and step_dataset_hash(self.spec.step, self._place) is None

    @property
    def determining(self) -> str:
        """The options that decide which rows are made of what is read."""
        elsewhere = _PLACE | set(EntryCuration.model_fields)
        chosen = self.spec.model_dump_json(include=set(DataSpec.model_fields) - elsewhere)
        made = by_entry(self.spec, self._place, self._option)
        return f"{chosen} {self._want} {made}".rstrip()

    @property
    def hash(self) -> str:
        content = f"{self.reading.hash()} {self.determining}"
        return hashlib.sha256(content.encode()).hexdigest()

    def rows(self) -> Iterator[Row]:
        columns = ColumnRenames(self.spec, self._place.at(self._option))
        raw = self._counted(columns)
        head = list(islice(raw, DETECTION_ROWS))
        if len(head) < DETECTION_ROWS or columns.clash:
            _use_up(raw)
            columns.raise_if_any()
        looked_at = [(origin, columns.renamed(row)) for origin, row in head]
        try:
            chosen = detect_format(looked_at, self.spec, self._want, self._place, self._option)
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
        for origin, one in raw:
            try:
                made = list(drop_unusable(convert_row(one, origin, chosen, self._want), self.tally))
            except DifferentPromptsError as error:
                self.tally.drop(error.what, origin)
            except DataError as error:
                malformed += 1
                if stops:
                    first += [error] if len(first) < NAMED else []
                else:
                    row = None if isinstance(one, DataError) else one
                    self.tally.skip(error.what, origin)
                    self.skipped.append(SkippedRow(origin, error.what, row))
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


def is_held_out(row: Row, share: float) -> bool:
    """Whether a row is among the `share` that is held out, by a hash of its prompt.

    The same prompt never falls on both sides, and rows that are added later move none of the others.
    """
    digest = hashlib.sha256(prompt_key(row).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
