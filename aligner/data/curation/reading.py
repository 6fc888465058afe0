"""Read any data set, whatever kind its rows are of: for comparing with it, and for looking at it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from aligner.data.context import DataContext
from aligner.data.options import DataSpec
from aligner.data.reading.format_detection import DETECTION_ROWS, detect_format
from aligner.data.reading.formats import FORMATS, ColumnTest
from aligner.data.reading.sources import open_rows
from aligner.errors import DataError
from aligner.registry import DataFormat

if TYPE_CHECKING:
    from aligner.data.reading.load import RowStream


def as_written(spec: DataSpec, context: DataContext, option: str) -> RowStream:
    """The rows of `spec` in the kind they are written in, curated as it says.

    Raises:
        DataError: data is missing, or fits no format, or several; when the rows are read, it is
            malformed.
    """
    from aligner.data.reading.load import RowStream  # which curates, and so imports this package

    chosen = format_of(spec, context, option)
    named = spec.model_copy(update={"format": chosen.name})
    return RowStream([named], want=chosen.kind, context=context, option=option)


def format_of(spec: DataSpec, context: DataContext, option: str) -> DataFormat:
    """The format of `spec`: the one that it names, or the only one that fits its first rows.

    Of several that fit, those are preferred that use more of the columns.

    Raises:
        DataError: none fits, or several do.
    """
    known = {**FORMATS, **context.registry.data_formats}
    if spec.format in known:
        return known[spec.format]
    first = islice(open_rows(spec, context, option).rows, DETECTION_ROWS)
    raw = [(origin, _renamed(row, spec.columns)) for origin, row in first]
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


def _renamed(row: object, names: Mapping[str, str]) -> object:
    if not isinstance(row, Mapping):
        return row
    return {names.get(name, name): value for name, value in row.items()}
