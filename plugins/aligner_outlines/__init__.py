"""Beginnings of recipes for the methods that aligner's own stages make, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner.offers import Outline
from aligner_outlines.outlines import OUTLINES


@aligner.hookimpl
def aligner_outlines() -> Iterable[Outline]:
    return OUTLINES
