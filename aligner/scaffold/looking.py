"""Look at a model and data as far as a new recipe needs: nothing is loaded but the tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers import PreTrainedTokenizerBase

from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.data.options import DataSpec
from aligner.data.reading.load import load_rows
from aligner.data.reading.sources import SCHEMES
from aligner.data.rows import Row
from aligner.errors import AlignerError, DataError
from aligner.models.resolve import resolve
from aligner.registry import DatasetSummary, Registry, RowKind
from aligner.stage import PlanContext
from aligner.state import ModelCache

LOOKED_AT = 1000
"""Rows whose lengths are measured, taken at even distances."""
NEARLY_ALL = 0.98
PER_TURN = 8
"""Tokens that a template spends on a turn, at most."""


class Model:
    """What is known of a model from its settings and tokenizer."""

    def __init__(self, name: str, folder: Path) -> None:
        """Look at the folder or hub id `name`; one on the hub that is out of reach stays unknown.

        Raises:
            ModelError: `name` is a folder and no model, or one that cannot be used.
        """
        there = os.path.isdir(os.path.expanduser(name))
        self.written = _from(Path(name).expanduser(), folder) if there else name
        if there and not self.written.startswith((".", "/")):
            self.written = f"./{self.written}"
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.positions: int | None = None
        self.unknown = ""
        try:
            artifact = resolve(os.path.expanduser(name) if there else name, where="--model")
            self.tokenizer = load_tokenizer(artifact, ModelCache(), where="--model")
        except AlignerError as error:
            if there:
                raise
            self.unknown = error.what
            return
        if there:
            config = json.loads((Path(name).expanduser() / "config.json").read_text("utf-8"))
            positions = config.get("max_position_embeddings")
            self.positions = positions if isinstance(positions, int) else None

    @property
    def special(self) -> frozenset[str]:
        if self.tokenizer is None:
            return frozenset()
        added: Mapping[str, int] = self.tokenizer.get_added_vocab()
        return frozenset(added)


def look_at(
    names: Sequence[str],
    kind: RowKind,
    model: Model,
    *,
    option: str,
    folder: Path,
    registry: Registry,
) -> DatasetSummary:
    """Read the data sets as rows of `kind`, and measure them.

    Raises:
        DataError: They are not there, malformed, or of another kind.
    """
    specs = [_spec(name, folder) for name in names]
    if any(spec.hub for spec in specs):
        return DatasetSummary(spec=_written(specs))
    place = PlanContext(
        step="new", where=option, recipe_folder=folder, seed=0, slots={}, registry=registry, memo={}
    )
    loaded = load_rows(specs, want=kind, context=place, option=option)
    if not loaded.rows:
        raise DataError("no row can be used", where=option)
    longest = _longest(loaded.rows, model.tokenizer) if model.tokenizer else None
    return DatasetSummary(spec=_written(specs), rows=len(loaded.rows), longest=longest)


def _spec(name: str, folder: Path) -> DataSpec:
    if urlsplit(name).scheme in SCHEMES:
        return DataSpec(path=name)
    full = Path(name).expanduser()
    if full.exists() or full.suffix or name.startswith((".", "/", "~")):
        return DataSpec(path=_from(full, folder))
    return DataSpec(hub=name)


def _from(path: Path, folder: Path) -> str:
    """A path as a recipe in `folder` says it; an absolute one stays so."""
    return str(path) if path.is_absolute() else os.path.relpath(path.absolute(), folder)


def _written(specs: Sequence[DataSpec]) -> str:
    """The data sets as flow YAML, which JSON is."""
    said: list[Any] = [one.path or {"hub": one.hub} for one in specs]
    return json.dumps(said[0] if len(said) == 1 else said, ensure_ascii=False)


def _longest(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> int:
    every = max(1, len(rows) // LOOKED_AT)
    lengths = sorted(_tokens(row, tokenizer) for row in rows[::every])
    return lengths[min(len(lengths) - 1, int(NEARLY_ALL * len(lengths)))]


def _tokens(row: Row, tokenizer: PreTrainedTokenizerBase) -> int:
    """An upper estimate of the row's tokens, its template included; of two answers, the longer."""
    known = vars(row)
    if "text" in known:
        return _count([known["text"]], tokenizer)
    shared = [*known.get("prompt", ()), *known.get("messages", ())]
    sides = [known[name] for name in ("chosen", "rejected", "completion") if name in known]
    most = max((_turns(side, tokenizer) for side in sides), default=0)
    return 4 * PER_TURN + _turns(shared, tokenizer) + most


def _turns(turns: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> int:
    return _count([turn["content"] for turn in turns], tokenizer) + PER_TURN * len(turns)


def _count(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> int:
    # Not through the tokenizer itself, which warns of texts that are longer than its model takes.
    backend = tokenizer.backend_tokenizer
    return sum(len(backend.encode(text, add_special_tokens=False).ids) for text in texts) + 2
