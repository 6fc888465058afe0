"""Making data with models, as an aligner plugin."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_annotate.paraphrase_stage import Paraphrase
from aligner_annotate.stage import Annotate


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield Annotate
    yield Paraphrase
