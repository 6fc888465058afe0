"""Importers for configuration files of LLaMA-Factory, Axolotl and TRL, as an aligner plugin."""

from __future__ import annotations

from collections.abc import Iterable

import aligner
from aligner_import.axolotl import AXOLOTL
from aligner_import.importer import make_importer
from aligner_import.llama_factory import LLAMA_FACTORY
from aligner_import.trl import TRL


@aligner.hookimpl
def aligner_config_importers() -> Iterable[aligner.ConfigImporter]:
    return [make_importer(importer) for importer in (LLAMA_FACTORY, AXOLOTL, TRL)]
