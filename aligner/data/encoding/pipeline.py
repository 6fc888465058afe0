"""Work out the data of a step: rows flow from where they lie into files of tokens, every loss counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy

from aligner.data.context import DataContext
from aligner.data.encoding.truncation import EncodedRows, RenderedRows, RowEncoder
from aligner.data.ledger import EXAMPLES, Count, Ledger, count_row, merge_counts, summarize_lengths
from aligner.data.options import DataOptions
from aligner.data.reading.cross_row_checks import SharedPrompts
from aligner.data.reading.load import RowStream, is_held_out
from aligner.data.reading.operations import apply_entry_operations
from aligner.data.reading.skipped_rows import write_skipped
from aligner.data.rows import ClassifiedText, LabeledCompletion, Row
from aligner.data.store.row_store import RowStore, RowStoreWriter
from aligner.errors import AlignerError, DataError, ErrorCollector

BATCH = 1000
"""Rows that are encoded together."""
OUTLYING = 8
"""How many times as long as the 99th percentile a row is before it is pointed out."""


@dataclass
class Split:
    """The rows that are trained on, or those that are measured on."""

    name: str
    """The option that they come of."""
    fitted: EncodedRows[Any]
    writer: RowStoreWriter
    given: int = 0
    """Rows that were to be fitted, changed copies among them."""
    original: int = 0
    counts: list[int] = field(default_factory=list)
    """How many rows each entry of the option became."""
    labels: dict[str, Count] = field(default_factory=dict)
    """Rows of each class or verdict, where there are any."""

    def see(self, row: Row) -> None:
        self.original += 1
        if isinstance(row, ClassifiedText | LabeledCompletion):
            count_row(self.labels, str(row.label), row.origin)

    def keep(self, entry: int) -> None:
        """Write down what was fitted since the last time, which is of the given entry."""
        self.counts[entry] += len(self.fitted.rows)
        self.writer.write(self.fitted.rows, self.fitted.sizes)
        self.fitted.rows.clear()
        self.fitted.sizes.clear()


@dataclass
class EncodeQueue:
    """Renders rows while those before them are encoded in the background; their order stays."""

    fitter: RowEncoder[Any]
    pool: ThreadPoolExecutor
    _encoding: tuple[Split, int, RenderedRows[Any, Any], Future[list[Any]]] | None = None

    def send(self, side: Split, entry: int, rows: list[Row]) -> None:
        made = self.fitter.render(rows)
        # Fitting may encode rows anew, so what is under way must have ended.
        self.settle()
        self._encoding = (side, entry, made, self.pool.submit(self.fitter.encode, made))

    def settle(self) -> None:
        if self._encoding is not None:
            side, entry, made, encoded = self._encoding
            self._encoding = None
            self.fitter.take(made, encoded.result(), side.fitted)
            side.keep(entry)


@dataclass(kw_only=True)
class PreparePipeline:
    """All that is needed to prepare the data of one step."""

    context: DataContext
    options: DataOptions
    flows: dict[str, RowStream]
    """By option: `data`, and `eval_data` where there is one."""
    form: type[Any]
    """What a prepared row is."""
    longest: int | None
    fitter: Callable[[], RowEncoder[Any]]
    """Makes what encodes; AlignerError where the tokenizer cannot."""

    def into(self, folder: Path) -> dict[str, Any]:
        """Write all rows below `folder`, and give the account of them, ready for JSON.

        Raises:
            AlignerError: every error of all the data.
        """
        sides = {name: self._side(name, folder) for name in self._names()}
        fitter = trouble = None
        try:
            fitter = self.fitter()
        except AlignerError as error:
            trouble = error  # what is wrong with the data is told first
        errors, shared = ErrorCollector(), SharedPrompts()
        with ThreadPoolExecutor(1) as pool:
            line = EncodeQueue(fitter, pool) if fitter is not None else None
            for name, flow in self.flows.items():
                with errors:
                    self._send(name, flow, sides, line, shared)
            errors.raise_if_any()
            if trouble is not None:
                raise trouble
            if line is not None:
                line.settle()
        for side in sides.values():
            side.writer.close()
        self._refuse_an_empty_side(sides)
        for name, flow in self.flows.items():
            write_skipped(flow.skipped, folder / f"skipped-{name}.jsonl")
        return {
            "sides": {
                name: self._account(side, sides["data"], shared, folder)
                for name, side in sides.items()
            },
            "hashes": {name: self._flow(name).hash for name in sides},
            "skipped": {name: len(flow.skipped) for name, flow in self.flows.items()},
        }

    def _names(self) -> list[str]:
        return ["data", "hold_out"] if self.options.hold_out else list(self.flows)

    def _flow(self, side: str) -> RowStream:
        return self.flows["data" if side == "hold_out" else side]

    def _side(self, name: str, folder: Path) -> Split:
        writer = RowStoreWriter(folder / f"{name}.arrow", self.form)
        counts = [0] * len(self._flow(name).specs)
        return Split(name, EncodedRows(longest=self.longest), writer, counts=counts)

    def _send(
        self,
        name: str,
        flow: RowStream,
        sides: dict[str, Split],
        line: EncodeQueue | None,
        shared: SharedPrompts,
    ) -> None:
        """Let the rows of one option flow to the sides they belong to."""
        waiting: dict[str, list[tuple[int, Row]]] = {one: [] for one in sides}

        def push(side: str, entry: int, row: Row) -> None:
            queue = waiting[side]
            if line is not None and queue and (len(queue) == BATCH or queue[0][0] != entry):
                line.send(sides[side], queue[0][0], [row for _, row in queue])
                queue.clear()
            sides[side].given += 1
            if line is not None:
                queue.append((entry, row))

        def trained_on() -> Iterator[tuple[int, Row]]:
            for row in flow.rows():
                held = name == "data" and is_held_out(row, self.options.hold_out)
                side = "hold_out" if held else name
                sides[side].see(row)
                if held:
                    push(side, flow.entry, row)
                    continue
                if "eval_data" in self.flows:
                    (shared.train if name == "data" else shared.measure)(row)
                yield flow.entry, row

        for entry, group in groupby(trained_on(), key=lambda one: one[0]):
            rows: Iterator[Row] = (row for _, row in group)
            if name == "data":
                spec, tally = flow.specs[entry], sides[name].fitted.tally
                rows = apply_entry_operations(
                    rows, spec, "training entry", tally, context=self.context, option=name
                )
            for row in rows:
                push(name, entry, row)
        for side, queue in waiting.items():
            if queue and line is not None:
                line.send(sides[side], queue[0][0], [row for _, row in queue])

    def _refuse_an_empty_side(self, sides: dict[str, Split]) -> None:
        if not self.options.hold_out:
            return
        train, held = sides["data"].original, sides["hold_out"].original
        if not train or not held:
            side = "nothing is left to train on" if held else "no row is held out"
            what = f"{side}: {train + held} rows, hold_out {self.options.hold_out:g}"
            hint = "use more rows, another share, or eval_data"
            raise DataError(what, where=self.context.at("hold_out"), hint=hint)

    def _account(
        self, side: Split, trained: Split, shared: SharedPrompts, folder: Path
    ) -> dict[str, Any]:
        ledger = self._ledger(side, shared)
        found = _of_labels(side, trained)
        if self.longest is None:
            rows: RowStore[Any] = RowStore(folder / f"{side.name}.arrow", self.form)
            found |= outliers(rows, ledger.lengths)
        return {
            "ledger": asdict(replace(ledger, found=merge_counts(ledger.found, found))),
            "counts": side.counts,
            "too_long": side.fitted.too_long,
            "too_long_rows": side.fitted.too_long_rows,
        }

    def _ledger(self, side: Split, shared: SharedPrompts) -> Ledger:
        """What became of one side; what loading found is told once, with the side that is trained."""
        before = self._flow(side.name).ledger()
        if side.name == "hold_out":
            name = f"{before.name} (held out)"
            before = Ledger(name=name, read=side.given, converted=side.given)
        else:
            elsewhere = before.used - side.given
            before = replace(before, converted=before.converted - elsewhere)
        fitted = side.fitted
        found = merge_counts(before.found, fitted.tally.found)
        if side.name == "eval_data":
            found = merge_counts(found, shared.found())
        return replace(
            before,
            used=len(fitted.lengths),
            labels={name: count.rows for name, count in side.labels.items()},
            dropped=merge_counts(before.dropped, fitted.tally.dropped),
            filtered=merge_counts(before.filtered, fitted.tally.filtered),
            found=found,
            phrases={**before.phrases, **fitted.tally.phrases},
            lengths=summarize_lengths(fitted.lengths),
            tokens=fitted.tokens,
            trained=fitted.trained,
            cut_tokens=fitted.cut_tokens,
            unknown_tokens=fitted.unknown,
        )


def _of_labels(side: Split, trained: Split) -> dict[str, Count]:
    """What is wrong with the verdicts or classes of one side, given those that are trained on."""
    if side is trained:
        if len(side.labels) != 1:
            return {}
        ((name, count),) = side.labels.items()
        return {"one_label": replace(count, detail=name)}
    unseen = {name: count for name, count in side.labels.items() if name not in trained.labels}
    if not unseen:
        return {}
    both: dict[str, Count] = {}
    for count in unseen.values():
        both = merge_counts(both, {"": count})
    return {"unseen_labels": replace(both[""], detail=", ".join(unseen))}


def outliers(rows: RowStore[Any], lengths: Mapping[str, float]) -> dict[str, Count]:
    """Rows that are far longer than nearly all others."""
    sizes = rows.sizes("length")
    far = numpy.flatnonzero(sizes > OUTLYING * lengths.get("p99", math.inf))
    if not len(far):
        return {}
    first = tuple(rows[int(index)].origin for index in far[:EXAMPLES])
    return {"outliers": Count(len(far), first, f"the longest has {int(sizes.max())} tokens")}
