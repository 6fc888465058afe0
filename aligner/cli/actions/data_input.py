"""Read the data set of `aligner data` from its arguments, as a step of a recipe reads it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from aligner.data.encoding.mixture import mixture_order
from aligner.data.ledger import Tally
from aligner.data.options import DataOptions, DataSpec, RowOrder
from aligner.data.reading.load import RowStream
from aligner.data.reading.operations import apply_entry_operations
from aligner.data.reading.sources import SCHEMES
from aligner.data.rows import Row
from aligner.errors import ChainError
from aligner.host import Host
from aligner.options.row_operations import with_operations
from aligner.options.validation import check_options
from aligner.registry import RowKind
from aligner.stage import PlanContext

_NOT_ALLOWED = ("path", "hub", "source", "options", "step", "weight")
"""Options that name the data, which the command line does, or that relate several entries."""


class _DataArguments(DataSpec, RowOrder):
    """The options after `--with`, and the path of the data."""

    operation_scopes = frozenset({"entry", "training entry", "step"})


@dataclass(frozen=True)
class DataInput:
    """A data set and how it is read."""

    spec: DataSpec
    options: DataOptions
    context: PlanContext

    def stream(self, kind: RowKind) -> RowStream:
        """Return the rows as rows of `kind`, with their ledger."""
        options = self.options
        return RowStream(
            [self.spec], want=kind, context=self.context, option="data", options=options
        )

    def rows(self, stream: RowStream, tally: Tally) -> Iterator[Row]:
        """Return the rows of `stream`, augmented, mixed and shuffled according to the options."""
        rows = apply_entry_operations(
            stream.rows(), self.spec, "training entry", tally, context=self.context, option="data"
        )
        if not self.options.mixture and not self.options.shuffle:
            return rows
        kept = list(rows)
        indices = mixture_order([len(kept)], [self.spec], self.options, seed=self.context.seed)
        return iter(kept if indices is None else [kept[index] for index in indices.tolist()])


def data_input(arguments: argparse.Namespace, **defaults: Any) -> DataInput:
    """Read the arguments; `defaults` are options that apply unless they are given.

    Raises:
        AlignerError: An option is wrong.
    """
    host = Host.discover(block=arguments.no_plugin, only=arguments.only_plugins)
    given = parse_options(arguments.options) if arguments.options else {}
    for name in _NOT_ALLOWED:
        if name in given:
            raise ChainError(f"the data option {name!r} is not allowed here", where="--with")
    written = {"columns": _parse_columns(arguments.columns), "format": arguments.format}
    options = defaults | {name: value for name, value in written.items() if value} | given
    registry = host.registry()
    operations = registry.row_operations
    checked = check_options(
        options | _location(arguments.path),
        with_operations(_DataArguments, operations),
        what="data",
        where=lambda path: "--with",
    )
    of_entry = with_operations(DataSpec, operations)
    of_step = with_operations(DataOptions, operations)
    spec = of_entry(**{name: getattr(checked, name) for name in of_entry.model_fields})
    step = {name: getattr(checked, name) for name in (*RowOrder.model_fields, *of_step.operations)}
    context = PlanContext(
        step="data",
        where="",
        recipe_folder=Path(),
        seed=arguments.seed,
        slots={},
        registry=registry,
        memo={},
        option_lines=dict.fromkeys(operations, "--with"),
    )
    return DataInput(spec, _data_options(of_step, spec, step), context)


def parse_options(text: str) -> dict[str, Any]:
    """Parse the YAML mapping after `--with`.

    Raises:
        ChainError: It is not a mapping.
    """
    try:
        options = yaml.safe_load(text)
    except yaml.YAMLError as error:
        message = " ".join(str(error).split())[:200]
        raise ChainError(f"invalid YAML: {message}", where="--with") from None
    if not isinstance(options, dict):
        hint = "write options as a mapping: '{clean: true, redact: [email]}'"
        raise ChainError(f"{text!r} is not a mapping of options", where="--with", hint=hint)
    return {str(name): value for name, value in options.items()}


def _data_options(model: type[DataOptions], spec: DataSpec, step: Mapping[str, Any]) -> DataOptions:
    try:
        return model(data=(spec,), **step)
    except ValidationError as error:
        first = error.errors()[0]
        raise ChainError(
            str(first.get("ctx", {}).get("error", first["msg"])), where="--with"
        ) from None


def _parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            hint = "write OLD=NEW: question=prompt"
            raise ChainError(f"{pair!r} does not rename a column", where="--columns", hint=hint)
        columns[old] = new
    return columns


def _location(name: str) -> dict[str, str]:
    """Return `name` as a path or URL if it looks like one, else as a Hub id."""
    full = Path(name).expanduser()
    local = full.exists() or full.suffix or name.startswith((".", "/", "~")) or has_magic(name)
    return {"path": name} if local or urlsplit(name).scheme in SCHEMES else {"hub": name}
