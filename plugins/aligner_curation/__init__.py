"""Row operations that clean, redact, augment, deduplicate and decontaminate data, as an aligner plugin."""

from collections.abc import Iterable

import aligner
from aligner_curation.augment import AugmentRows
from aligner_curation.clean import CleanRows
from aligner_curation.contamination import DecontaminateRows
from aligner_curation.duplicates import DeduplicateRows
from aligner_curation.redact import RedactRows


@aligner.hookimpl
def aligner_row_operations() -> Iterable[type[aligner.RowOperation]]:
    yield from (CleanRows, RedactRows, AugmentRows, DeduplicateRows, DecontaminateRows)
