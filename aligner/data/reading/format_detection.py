"""Detect the format of a data set's rows from their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from aligner.data.context import DataContext
from aligner.data.describe import describe_value, printable_name
from aligner.data.options import DataSpec
from aligner.data.reading.formats import FORMATS, ColumnTest, nearest_formats
from aligner.data.reading.kinds import is_convertible
from aligner.data.reading.sources import open_rows
from aligner.data.reading.tables import RawRow
from aligner.errors import DataError, did_you_mean
from aligner.registry import DataFormat, RowKind

DETECTION_ROWS = 200
"""Number of rows, from the start, that decide the format."""


def detect_format(
    raw: Sequence[RawRow], spec: DataSpec, want: RowKind, context: DataContext, option: str
) -> DataFormat:
    """Return the format of `raw`: the one in the recipe, or the only one that matches.

    Of several formats that match, those of the wanted kind are preferred, then those that use more of
    the columns.

    Raises:
        DataError: none matches, several do, or its rows cannot be converted to the kind `want`.
    """
    known = {**FORMATS, **context.registry.data_formats}
    where = context.at(option)
    if spec.format != "auto":
        if spec.format not in known:
            hint = did_you_mean(spec.format, known)
            raise DataError(f"there is no data format {spec.format!r}", where=where, hint=hint)
        chosen = known[spec.format]
        if not is_convertible(chosen.kind, want):
            raise _wrong_kind([chosen], spec, want, where)
        return chosen
    rows = [row for _, row in raw[:DETECTION_ROWS] if isinstance(row, Mapping)]
    if not rows:
        _raise_first(raw, spec, where)
    fitting = [entry for entry in known.values() if entry.recognize(rows)]
    if not fitting:
        raise _unknown(rows, known, spec, where)
    exact = [entry for entry in fitting if entry.kind == want]
    usable = _fullest(exact or [entry for entry in fitting if is_convertible(entry.kind, want)])
    if not usable:
        raise _wrong_kind(fitting, spec, want, where)
    if len(usable) > 1:
        names = " and ".join(sorted(entry.name for entry in usable))
        hint = f"choose one with `format: {usable[0].name}`"
        raise DataError(f"the rows of {spec.named} match {names}", where=where, hint=hint)
    return usable[0]


def _fullest(fitting: Sequence[DataFormat]) -> list[DataFormat]:
    """Leave out formats whose columns are a subset of another's: labeled turns are turns as well."""
    needs = {
        entry.name: set(entry.recognize.needed)
        if isinstance(entry.recognize, ColumnTest)
        else set()
        for entry in fitting
    }
    return [
        entry
        for entry in fitting
        if not any(needs[entry.name] < needs[other.name] for other in fitting)
    ]


def _raise_first(raw: Sequence[RawRow], spec: DataSpec, where: str) -> None:
    for origin, row in raw:
        if isinstance(row, DataError):
            raise row
        raise DataError(f"a row should be an object, not {describe_value(row)}", where=origin)
    raise DataError(f"{spec.named} has no rows", where=where)


def _unknown(
    rows: Sequence[Mapping[str, Any]], known: Mapping[str, DataFormat], spec: DataSpec, where: str
) -> DataError:
    columns = list(dict.fromkeys(printable_name(name) for row in rows for name in row))
    near = "; ".join(
        f"{name} lacks {' and '.join(lack)}" for name, lack in nearest_formats(known, rows)
    )
    what = f"the rows of {spec.named} match no known format; their columns are {', '.join(columns)}"
    offer = f"rename columns with `columns: {{{columns[0]}: …}}`" if columns else ""
    return DataError(what, where=where, hint=f"nearest: {near}; {offer}" if near else offer)


def _wrong_kind(
    fitting: Sequence[DataFormat], spec: DataSpec, want: RowKind, where: str
) -> DataError:
    formats = " or ".join(f"{entry.name} ({entry.kind} rows)" for entry in fitting)
    makers = sorted(
        name for name, data_format in FORMATS.items() if is_convertible(data_format.kind, want)
    )
    what = f"{spec.named} has the format {formats}, which cannot be converted to {want} rows"
    return DataError(what, where=where, hint=f"formats for {want} rows: {', '.join(makers)}")


def detect_any_format(spec: DataSpec, context: DataContext, option: str) -> DataFormat:
    """Return the format of `spec` whatever its kind: the one it names, or the only one that matches.

    Of several formats that match, those that use more of the columns are preferred.

    Raises:
        DataError: none matches, or several do.
    """
    known = {**FORMATS, **context.registry.data_formats}
    if spec.format in known:
        return known[spec.format]
    first = islice(open_rows(spec, context, option).rows, DETECTION_ROWS)
    raw = [(origin, _with_names(row, spec.columns)) for origin, row in first]
    rows = [row for _, row in raw if isinstance(row, Mapping)]
    fitting = [entry for entry in known.values() if entry.recognize(rows)] if rows else []
    fullest = [
        entry for entry in fitting if not any(_needs(entry) < _needs(two) for two in fitting)
    ]
    if spec.format != "auto" or not fullest:
        # The error does not depend on the kind.
        return detect_format(raw, spec, "text", context, option)
    if len(fullest) > 1:
        names = " and ".join(sorted(entry.name for entry in fullest))
        what, hint = (
            f"the rows of {spec.named} match {names}",
            f"choose one with `format: {fullest[0].name}`",
        )
        raise DataError(what, where=context.at(option), hint=hint)
    return fullest[0]


def _needs(known: DataFormat) -> set[str]:
    return set(known.recognize.needed) if isinstance(known.recognize, ColumnTest) else set()


def _with_names(row: object, names: Mapping[str, str]) -> object:
    if not isinstance(row, Mapping):
        return row
    return {names.get(name, name): value for name, value in row.items()}
