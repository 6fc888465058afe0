"""Curate the rows of all entries of a step together: repeats and contaminated rows left out."""

from __future__ import annotations

from collections.abc import Iterator

from aligner.data.context import DataContext
from aligner.data.curation.contamination import decontaminated, measured
from aligner.data.curation.duplicates import deduplicated
from aligner.data.ledger import Tally
from aligner.data.options import DataOptions
from aligner.data.rows import Row


def curated_together(
    rows: Iterator[Row], options: DataOptions, tally: Tally, *, context: DataContext, option: str
) -> Iterator[Row]:
    """The rows of `data` without those that `deduplicate` and `decontaminate` leave out.

    Rows of another `option` than `data` are left as they are: what is measured on stays what it is.

    Raises:
        DataError: a library is not installed, or data to compare with cannot be read.
    """
    if option != "data":
        return rows
    if options.deduplicate is not None:
        rows = deduplicated(rows, options.deduplicate, tally, context=context, option=option)
    if options.decontaminate is not None:
        runs = measured(options, options.decontaminate, context)
        rows = decontaminated(rows, runs, options.decontaminate, tally)
    return rows
