"""Carry out `aligner data inspect` and `aligner data convert`: read as a recipe would, tell, write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from aligner.data.curation.augment import augmented
from aligner.data.curation.reading import format_of
from aligner.data.curation.spec import StepCuration
from aligner.data.encoding.mixture import mixture_order
from aligner.data.language import language_of
from aligner.data.ledger import Tally, merge_counts
from aligner.data.options import DataOptions, DataSpec, SwitchedDecontaminate
from aligner.data.reading.load import RowStream
from aligner.data.reading.sources import SCHEMES, open_rows
from aligner.data.rows import Row
from aligner.data.survey import GROUPS, survey_rows
from aligner.data.writing import file_kind, find_target, write_rows
from aligner.errors import ChainError, DataError
from aligner.host import Host
from aligner.options.validation import check_options
from aligner.registry import RowKind
from aligner.scaffold.data_page import page
from aligner.stage import PlanContext
from aligner.terminal.listing import print_json
from aligner.terminal.output_capture import kept
from aligner.terminal.text import safe

_NOT_HERE = ("path", "hub", "source", "options", "step", "weight")
"""Options that name data, which the command line does, or that say something of several entries."""
_LOOKED_AT = 1000
"""Rows, from the start, whose columns are named."""


class _Asked(DataSpec, StepCuration):
    """What may stand after `--with`, and where the data is."""

    decontaminate: SwitchedDecontaminate = None
    """As in a recipe; there is no `eval_data`, so it needs `against`."""


@dataclass(frozen=True)
class _Data:
    """One data set, and what is done to it."""

    spec: DataSpec
    options: DataOptions
    place: PlanContext

    def flow(self, want: RowKind) -> RowStream:
        options = self.options
        return RowStream([self.spec], want=want, context=self.place, option="data", options=options)

    def rows(self, flow: RowStream, tally: Tally) -> Iterator[Row]:
        """The rows of `flow` with their changed copies, mixed and in order."""
        rows = augmented(flow.rows(), self.spec, tally, context=self.place, option="data")
        if not self.options.mixture and not self.options.shuffle:
            return rows
        held = list(rows)
        taken = mixture_order([len(held)], [self.spec], self.options, seed=self.place.seed)
        return iter(held if taken is None else [held[index] for index in taken.tolist()])


def inspect(arguments: argparse.Namespace) -> int:
    """Say what the data is like.

    Raises:
        AlignerError: It is missing or fits no format, or an option is wrong.
    """
    if arguments.options and "augment" in _given(arguments.options):
        raise ChainError("augment adds rows, and nothing is added here", where="--with")
    with kept():  # libraries talk while they load
        data = _data(arguments, on_bad_row="skip")
        chosen = format_of(data.spec, data.place, "data")
        named = data.spec.model_copy(update={"format": chosen.name})
        data = _Data(named, data.options, data.place)
        columns = _columns(data)
        flow, first = data.flow(chosen.kind), list[Row]()
        found = survey_rows(
            _first(flow.rows(), first, arguments.rows),
            groups=_groups(arguments.groups),
            language=_language(data.place),
        )
        ledger = flow.ledger()
    if arguments.json:
        print_json(
            {
                "format": chosen.name,
                "kind": chosen.kind,
                "columns": columns,
                "ledger": ledger.as_dict(),
                "survey": found.as_dict(),
                "first": [vars(row) for row in first],
            }
        )
        return 0
    sys.stdout.write(safe(page(ledger, chosen, columns, found, first)))
    sys.stdout.flush()
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """Write the data in another format, and say what became of its rows.

    Raises:
        AlignerError: It cannot be read, or not be written so, or the file exists.
    """
    to, out = find_target(arguments.to), arguments.out
    file_kind(out)
    if out.exists() and not arguments.force:
        raise DataError(f"{out} exists already", hint="--force replaces it")
    with kept():  # libraries talk while they load
        data = _data(arguments)
        passes: list[tuple[RowStream, Tally]] = []

        def rows() -> Iterator[Row]:
            passes.append((data.flow(to.kind), Tally()))
            return data.rows(*passes[-1])

        written = write_rows(out, rows, to)
    flow, tally = passes[-1]
    ledger = flow.ledger()
    if not written:
        reasons = (*ledger.skipped, *ledger.dropped, *ledger.filtered)
        hint = f"left out: {', '.join(reasons)}" if reasons else ""
        raise DataError(f"{data.spec.named}: no row is left to write", hint=hint)
    ledger = replace(ledger, found=merge_counts(ledger.found, tally.found))
    if arguments.json:
        print_json(
            {"path": str(out), "rows": written, "format": arguments.to, "ledger": ledger.as_dict()}
        )
    else:
        said = f"{ledger.describe()}\n{out}: {written} rows written as {arguments.to}\n"
        sys.stdout.write(safe(said))
        sys.stdout.flush()
    return 0


def _data(arguments: argparse.Namespace, **otherwise: Any) -> _Data:
    """What the command line asks for; `otherwise` is what holds where it says nothing."""
    host = Host.discover(block=arguments.no_plugin, only=arguments.only_plugins)
    given = _given(arguments.options) if arguments.options else {}
    for name in _NOT_HERE:
        if name in given:
            raise ChainError(f"data has no option {name!r} here", where="--with")
    written = {"columns": _columns_asked(arguments.columns), "format": arguments.format}
    options = otherwise | {name: value for name, value in written.items() if value} | given
    asked = check_options(
        options | _origin(arguments.path), _Asked, what="data", where=lambda path: "--with"
    )
    spec = DataSpec(**{name: getattr(asked, name) for name in DataSpec.model_fields})
    step = {name: getattr(asked, name) for name in (*StepCuration.model_fields, "decontaminate")}
    place = PlanContext(
        step="data",
        where="",
        recipe_folder=Path(),
        seed=arguments.seed,
        slots={},
        registry=host.registry(),
        memo={},
        option_lines={"decontaminate": "--with", "deduplicate": "--with"},
    )
    return _Data(spec, _step(spec, step), place)


def _step(spec: DataSpec, step: Mapping[str, Any]) -> DataOptions:
    try:
        return DataOptions(data=(spec,), **step)
    except ValidationError as error:
        said = error.errors()[0]
        raise ChainError(
            str(said.get("ctx", {}).get("error", said["msg"])), where="--with"
        ) from None


def _given(text: str) -> dict[str, Any]:
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())[:200]
        raise ChainError(f"not YAML: {said}", where="--with") from None
    if not isinstance(given, dict):
        hint = "write options as a mapping: '{clean: true, redact: [email]}'"
        raise ChainError(f"{text!r} is no mapping of options", where="--with", hint=hint)
    return {str(name): value for name, value in given.items()}


def _columns_asked(pairs: Sequence[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            hint = "name the column there is and what it is to be called: question=prompt"
            raise ChainError(f"{pair!r} renames no column", where="--columns", hint=hint)
        columns[old] = new
    return columns


def _origin(name: str) -> dict[str, str]:
    """What is there is a file or a folder; a name that looks like neither is one on the hub."""
    full = Path(name).expanduser()
    local = full.exists() or full.suffix or name.startswith((".", "/", "~")) or has_magic(name)
    return {"path": name} if local or urlsplit(name).scheme in SCHEMES else {"hub": name}


def _columns(data: _Data) -> list[str]:
    rows = islice(open_rows(data.spec, data.place, "data").rows, _LOOKED_AT)
    return list(dict.fromkeys(str(n) for _, row in rows if isinstance(row, Mapping) for n in row))


def _first(rows: Iterator[Row], first: list[Row], number: int) -> Iterator[Row]:
    """The rows, of which the first are put aside as well."""
    for row in rows:
        if len(first) < number:
            first.append(row)
        yield row


def _groups(words: str | None) -> Mapping[str, tuple[str, ...]]:
    if words is None:
        return {}
    named = [word.strip().lower() for word in words.split(",") if word.strip()]
    return {word: (word,) for word in named} or GROUPS


def _language(place: PlanContext) -> Callable[[str], str] | None:
    """What tells languages, where the library for it is installed; nothing else depends on it."""
    try:
        return language_of(place, "data")
    except DataError:
        return None
