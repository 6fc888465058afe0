"""Rename the columns of rows, and report names that match no column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligner.data.describe import printable_name
from aligner.data.options import DataSpec
from aligner.errors import AlignerError, DataError, ErrorGroup, did_you_mean


class ColumnRenames:
    """Renames that `columns` of a data entry asks for, and the columns that its rows have."""

    def __init__(self, spec: DataSpec, where: str) -> None:
        self._spec, self._where = spec, where
        self._there: set[str] = set()

    def see(self, row: Any) -> None:
        if self._spec.columns and isinstance(row, Mapping):
            self._there.update(map(str, row))

    @property
    def clash(self) -> bool:
        """True if a new name is the name of another column that was seen."""
        names = self._spec.columns
        return any(to in self._there and to not in names for to in names.values())

    def raise_if_any(self) -> None:
        """Raise the errors of the names, after all rows have been seen."""
        errors: list[AlignerError] = []
        named, where = self._spec.named, self._where
        for name, to in self._spec.columns.items():
            if name not in self._there:
                hint = did_you_mean(name, map(printable_name, self._there))
                errors.append(DataError(f"{named} has no column {name!r}", where=where, hint=hint))
            elif to in self._there and to not in self._spec.columns:
                hint = f"rename that one too: `columns: {{{to}: other}}`"
                what = f"{named} has a column {to!r} already"
                errors.append(DataError(what, where=where, hint=hint))
        ErrorGroup.raise_if_any(errors)

    def renamed(self, row: Any) -> Any:
        names = self._spec.columns
        if not names or not isinstance(row, Mapping):
            return row
        return {names.get(name, name): value for name, value in row.items()}
