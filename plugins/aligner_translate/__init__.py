"""Recipes of LLaMA-Factory, Axolotl and TRL read as chains, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner.offers import Translation
from aligner_translate.axolotl import AXOLOTL
from aligner_translate.llama_factory import LLAMA_FACTORY
from aligner_translate.peer import translation
from aligner_translate.trl import TRL


@aligner.hookimpl
def aligner_translations() -> Iterable[Translation]:
    return [translation(peer) for peer in (LLAMA_FACTORY, AXOLOTL, TRL)]
