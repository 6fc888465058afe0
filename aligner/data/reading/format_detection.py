"""Decide which format a data set's rows are written in, or say which it nearly is."""

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
"""Rows that are looked at."""


def detect_format(
    raw: Sequence[RawRow], spec: DataSpec, want: RowKind, context: DataContext, option: str
) -> DataFormat:
    """The format of `raw`: the one the recipe names, or the only one that fits and suits.

    Of several that fit, those are preferred whose rows are of the kind wanted already, then those
    that use more of the columns.

    Raises:
        DataError: none fits, several do, or no rows of the kind wanted can be made from it.
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
    fitting = [one for one in known.values() if one.recognize(rows)]
    if not fitting:
        raise _unknown(rows, known, spec, where)
    exact = [one for one in fitting if one.kind == want]
    usable = _fullest(exact or [one for one in fitting if is_convertible(one.kind, want)])
    if not usable:
        raise _wrong_kind(fitting, spec, want, where)
    if len(usable) > 1:
        names = " and ".join(sorted(one.name for one in usable))
        hint = f"say which with `format: {usable[0].name}`"
        raise DataError(f"the rows of {spec.named} fit {names}", where=where, hint=hint)
    return usable[0]


def _fullest(fitting: Sequence[DataFormat]) -> list[DataFormat]:
    """Leave out formats whose columns are but some of another's: labelled turns are turns, too."""
    needs = {
        one.name: set(one.recognize.needed) if isinstance(one.recognize, ColumnTest) else set()
        for one in fitting
    }
    return [
        one for one in fitting if not any(needs[one.name] < needs[other.name] for other in fitting)
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
    what = f"the rows of {spec.named} fit no known format; their columns are {', '.join(columns)}"
    offer = f"rename with `columns: {{{columns[0]}: …}}`" if columns else ""
    return DataError(what, where=where, hint=f"nearly: {near}; {offer}" if near else offer)


def _wrong_kind(
    fitting: Sequence[DataFormat], spec: DataSpec, want: RowKind, where: str
) -> DataError:
    formats = " or ".join(f"{one.name} ({one.kind} rows)" for one in fitting)
    makers = sorted(name for name, one in FORMATS.items() if is_convertible(one.kind, want))
    what = f"{spec.named} is written as {formats}, from which no {want} rows can be made"
    return DataError(what, where=where, hint=f"{want} rows are made from {', '.join(makers)}")


def detect_any_format(spec: DataSpec, context: DataContext, option: str) -> DataFormat:
    """The format of `spec`: the one that it names, or the only one that fits its first rows.

    Of several that fit, those are preferred that use more of the columns.

    Raises:
        DataError: none fits, or several do.
    """
    known = {**FORMATS, **context.registry.data_formats}
    if spec.format in known:
        return known[spec.format]
    first = islice(open_rows(spec, context, option).rows, DETECTION_ROWS)
    raw = [(origin, _with_names(row, spec.columns)) for origin, row in first]
    rows = [row for _, row in raw if isinstance(row, Mapping)]
    fitting = [one for one in known.values() if one.recognize(rows)] if rows else []
    fullest = [one for one in fitting if not any(_needs(one) < _needs(two) for two in fitting)]
    if spec.format != "auto" or not fullest:
        # What is wrong is the same whatever kind is wanted.
        return detect_format(raw, spec, "text", context, option)
    if len(fullest) > 1:
        names = " and ".join(sorted(one.name for one in fullest))
        what, hint = (
            f"the rows of {spec.named} fit {names}",
            f"say which with `format: {fullest[0].name}`",
        )
        raise DataError(what, where=context.at(option), hint=hint)
    return fullest[0]


def _needs(one: DataFormat) -> set[str]:
    return set(one.recognize.needed) if isinstance(one.recognize, ColumnTest) else set()


def _with_names(row: object, names: Mapping[str, str]) -> object:
    if not isinstance(row, Mapping):
        return row
    return {names.get(name, name): value for name, value in row.items()}
