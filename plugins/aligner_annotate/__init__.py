"""The annotate and paraphrase stages: data made with the chain's own models."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_annotate.stage import Annotate, Paraphrase


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield Annotate
    yield Paraphrase
