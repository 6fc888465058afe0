"""Curate the rows of one data entry as they stream by: cleaned, redacted, parted and sampled."""

from __future__ import annotations

from collections.abc import Iterator

from aligner.data.context import DataContext
from aligner.data.curation import parts
from aligner.data.curation.clean import cleaner
from aligner.data.curation.filters import filters
from aligner.data.curation.redact import redacted
from aligner.data.curation.spec import Clean
from aligner.data.ledger import Tally
from aligner.data.options import DataSpec
from aligner.data.row_texts import map_texts
from aligner.data.rows import Row


def curated(
    rows: Iterator[Row], spec: DataSpec, tally: Tally, *, context: DataContext, option: str
) -> Iterator[Row]:
    """The rows that `spec` asks for, as it asks for them; what became of the others is in `tally`.

    A sample of a number of rows holds those in memory; anything else holds one row at a time.

    Raises:
        DataError: a library is not installed, or a pattern is none or takes too long.
    """
    if spec.clean is not None:
        rows = _cleaned(rows, spec.clean, tally, context, option)
    if spec.redact is not None:
        rows = redacted(rows, spec.redact, tally, context=context, option=option)
    if spec.part is not None and spec.parts is not None:
        rows = parts.in_part(rows, spec.part, spec.parts, tally)
    if spec.sample is not None and spec.sample < 1:
        rows = parts.share(rows, spec.sample, context.seed, tally)
    elif spec.sample is not None:
        rows = parts.count(rows, int(spec.sample), context.seed, tally)
    return rows


def _cleaned(
    rows: Iterator[Row], how: Clean, tally: Tally, context: DataContext, option: str
) -> Iterator[Row]:
    clean, reasons = cleaner(how), filters(how, context, option)
    for row in rows:
        new = map_texts(row, clean)
        reason = next((said for one in reasons if (said := one(new))), "")
        if reason:
            tally.leave_out(reason, row.origin)
            continue
        if new is not row:
            tally.find("cleaned", row.origin)
        yield new
