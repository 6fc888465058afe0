"""Read a model's tokenizer and data sets for a new recipe; no weights load."""

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
from aligner.errors import AlignerError, DataError, error_location
from aligner.models.resolve import resolve
from aligner.registry import DatasetSummary, Registry, RowKind
from aligner.stage import PlanContext
from aligner.state import ModelCache

SAMPLED_ROWS = 1000
"""Rows whose lengths are measured, at equal distances."""
QUANTILE = 0.98
"""Share of the rows that the suggested length covers."""
TOKENS_PER_TURN = 8
"""Upper bound of the template's tokens per turn."""


class ModelSummary:
    """A model's path, tokenizer and context length, as far as they can be read here."""

    def __init__(self, name: str, folder: Path) -> None:
        """Read the model folder or Hub id `name`; an unreachable Hub id stays unknown.

        Raises:
            ModelError: `name` is a folder without a usable model.
        """
        local = os.path.isdir(os.path.expanduser(name))
        self.path = _relative_to(Path(name).expanduser(), folder) if local else name
        """The model as a recipe in `folder` names it."""
        if local and not self.path.startswith((".", "/")):
            self.path = f"./{self.path}"
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.positions: int | None = None
        try:
            with error_location("--model"):
                artifact = resolve(os.path.expanduser(name) if local else name)
                self.tokenizer = load_tokenizer(artifact, ModelCache())
        except AlignerError:
            if local:
                raise
            return
        if local:
            config = json.loads((Path(name).expanduser() / "config.json").read_text("utf-8"))
            positions = config.get("max_position_embeddings")
            self.positions = positions if isinstance(positions, int) else None

    @property
    def special_tokens(self) -> frozenset[str]:
        if self.tokenizer is None:
            return frozenset()
        added: Mapping[str, int] = self.tokenizer.get_added_vocab()
        return frozenset(added)


def summarize_data(
    names: Sequence[str],
    kind: RowKind,
    model: ModelSummary,
    *,
    option: str,
    folder: Path,
    registry: Registry,
) -> DatasetSummary:
    """Read the data sets as rows of `kind`, and measure them.

    Raises:
        DataError: A data set is missing, malformed, or of another kind.
    """
    specs = [_data_spec(name, folder) for name in names]
    if any(spec.hub for spec in specs):
        return DatasetSummary(spec=_as_yaml(specs))
    context = PlanContext(
        step="new", where=option, recipe_folder=folder, seed=0, slots={}, registry=registry, memo={}
    )
    loaded = load_rows(specs, want=kind, context=context, option=option)
    if not loaded.rows:
        raise DataError("no row can be used", where=option)
    longest = _length_quantile(loaded.rows, model.tokenizer) if model.tokenizer else None
    return DatasetSummary(spec=_as_yaml(specs), rows=len(loaded.rows), longest=longest)


def _data_spec(name: str, folder: Path) -> DataSpec:
    if urlsplit(name).scheme in SCHEMES:
        return DataSpec(path=name)
    path = Path(name).expanduser()
    if path.exists() or path.suffix or name.startswith((".", "/", "~")):
        return DataSpec(path=_relative_to(path, folder))
    return DataSpec(hub=name)


def _relative_to(path: Path, folder: Path) -> str:
    """Return `path` relative to `folder`; an absolute path stays as it is."""
    return str(path) if path.is_absolute() else os.path.relpath(path.absolute(), folder)


def _as_yaml(specs: Sequence[DataSpec]) -> str:
    """Return the data sets as flow YAML; JSON is valid YAML."""
    values: list[Any] = [spec.path or {"hub": spec.hub} for spec in specs]
    return json.dumps(values[0] if len(values) == 1 else values, ensure_ascii=False)


def _length_quantile(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> int:
    stride = max(1, len(rows) // SAMPLED_ROWS)
    lengths = sorted(_num_tokens(row, tokenizer) for row in rows[::stride])
    return lengths[min(len(lengths) - 1, int(QUANTILE * len(lengths)))]


def _num_tokens(row: Row, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return an upper estimate of the row's tokens; of two answers, the longer counts."""
    fields = vars(row)
    if "text" in fields:
        return _count([fields["text"]], tokenizer)
    prompt = [*fields.get("prompt", ()), *fields.get("messages", ())]
    answers = [fields[name] for name in ("chosen", "rejected", "completion") if name in fields]
    longest = max((_count_turns(answer, tokenizer) for answer in answers), default=0)
    return 4 * TOKENS_PER_TURN + _count_turns(prompt, tokenizer) + longest


def _count_turns(turns: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> int:
    return _count([turn["content"] for turn in turns], tokenizer) + TOKENS_PER_TURN * len(turns)


def _count(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> int:
    # Not through the tokenizer itself, which warns of texts that are longer than its model takes.
    backend = tokenizer.backend_tokenizer
    return sum(len(backend.encode(text, add_special_tokens=False).ids) for text in texts) + 2
