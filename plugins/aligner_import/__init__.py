"""Recipes of LLaMA-Factory, Axolotl and TRL read as chains, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner.registry import ConfigImporter
from aligner_import.axolotl import AXOLOTL
from aligner_import.llama_factory import LLAMA_FACTORY
from aligner_import.peer import translation
from aligner_import.trl import TRL


@aligner.hookimpl
def aligner_config_importers() -> Iterable[ConfigImporter]:
    return [translation(peer) for peer in (LLAMA_FACTORY, AXOLOTL, TRL)]
