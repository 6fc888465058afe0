"""Prepare the data of a step: stream rows through tokenization into files, and count every loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from operator import itemgetter
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
"""Number of rows that are tokenized together."""
OUTLYING = 8
"""Multiple of the 99th percentile of the lengths from which a row is an outlier."""


@dataclass
class Split:
    """The rows to train on, or those to evaluate on, while they are prepared."""

    name: str
    """Option of the recipe: `data`, `eval_data` or `hold_out`."""
    encoded_rows: EncodedRows[Any]
    writer: RowStoreWriter
    given: int = 0
    """Number of rows to tokenize, augmented copies included."""
    original: int = 0
    counts: list[int] = field(default_factory=list)
    """Number of tokenized rows of each entry of the option."""
    labels: dict[str, Count] = field(default_factory=dict)
    """Number of rows of each label, if there are labels."""

    def see(self, row: Row) -> None:
        self.original += 1
        if isinstance(row, ClassifiedText | LabeledCompletion):
            count_row(self.labels, str(row.label), row.origin)

    def keep(self, entry: int) -> None:
        """Write the rows tokenized since the last call, which belong to the given entry."""
        self.counts[entry] += len(self.encoded_rows.rows)
        self.writer.write(self.encoded_rows.rows, self.encoded_rows.sizes)
        self.encoded_rows.rows.clear()
        self.encoded_rows.sizes.clear()


@dataclass
class EncodeQueue:
    """Queue that renders rows while those before them are tokenized in the background."""

    encoder: RowEncoder[Any]
    pool: ThreadPoolExecutor
    _encoding: tuple[Split, int, RenderedRows[Any, Any], Future[list[Any]]] | None = None

    def send(self, split: Split, entry: int, rows: list[Row]) -> None:
        made = self.encoder.render(rows)
        # Truncation may tokenize rows again, so the batch in the background must be finished.
        self.settle()
        self._encoding = (split, entry, made, self.pool.submit(self.encoder.encode, made))

    def settle(self) -> None:
        if self._encoding is not None:
            split, entry, made, encoded = self._encoding
            self._encoding = None
            self.encoder.take(made, encoded.result(), split.encoded_rows)
            split.keep(entry)


@dataclass(kw_only=True)
class PreparePipeline:
    """Preparation of the data of one step."""

    context: DataContext
    options: DataOptions
    flows: dict[str, RowStream]
    """By option: `data`, and `eval_data` where there is one."""
    form: type[Any]
    """Type of a tokenized row."""
    longest: int | None
    encoder: Callable[[], RowEncoder[Any]]
    """Returns the encoder of rows; raises AlignerError if the tokenizer is unsuitable."""

    def write(self, folder: Path) -> dict[str, Any]:
        """Write all rows below `folder` and return their ledgers and counts as JSON values.

        Raises:
            AlignerError: every error of all the data.
        """
        splits = {name: self._split(name, folder) for name in self._names()}
        encoder = encoder_error = None
        try:
            encoder = self.encoder()
        except AlignerError as error:
            encoder_error = error  # errors of the data are reported first
        errors, shared = ErrorCollector(), SharedPrompts()
        with ThreadPoolExecutor(1) as pool:
            line = EncodeQueue(encoder, pool) if encoder is not None else None
            for name, flow in self.flows.items():
                with errors:
                    self._send(name, flow, splits, line, shared)
            errors.raise_if_any()
            if encoder_error is not None:
                raise encoder_error
            if line is not None:
                line.settle()
        for split in splits.values():
            split.writer.close()
        self._refuse_empty_split(splits)
        for name, flow in self.flows.items():
            write_skipped(flow.skipped, folder / f"skipped-{name}.jsonl")
        return {
            "splits": {
                name: self._account(split, splits["data"], shared, folder)
                for name, split in splits.items()
            },
            "hashes": {name: self._flow(name).hash for name in splits},
            "skipped": {name: len(flow.skipped) for name, flow in self.flows.items()},
        }

    def _names(self) -> list[str]:
        return ["data", "hold_out"] if self.options.hold_out else list(self.flows)

    def _flow(self, split: str) -> RowStream:
        return self.flows["data" if split == "hold_out" else split]

    def _split(self, name: str, folder: Path) -> Split:
        writer = RowStoreWriter(folder / f"{name}.arrow", self.form)
        counts = [0] * len(self._flow(name).specs)
        return Split(name, EncodedRows(longest=self.longest), writer, counts=counts)

    def _send(
        self,
        name: str,
        flow: RowStream,
        splits: dict[str, Split],
        line: EncodeQueue | None,
        shared: SharedPrompts,
    ) -> None:
        """Send the rows of one option to their splits."""
        waiting: dict[str, list[tuple[int, Row]]] = {split: [] for split in splits}

        def push(split: str, entry: int, row: Row) -> None:
            queue = waiting[split]
            if line is not None and queue and (len(queue) == BATCH or queue[0][0] != entry):
                line.send(splits[split], queue[0][0], [row for _, row in queue])
                queue.clear()
            splits[split].given += 1
            if line is not None:
                queue.append((entry, row))

        def trained_on() -> Iterator[tuple[int, Row]]:
            for row in flow.rows():
                held = name == "data" and is_held_out(row, self.options.hold_out)
                split = "hold_out" if held else name
                splits[split].see(row)
                if held:
                    push(split, flow.entry, row)
                    continue
                if "eval_data" in self.flows:
                    (shared.train if name == "data" else shared.measure)(row)
                yield flow.entry, row

        for entry, group in groupby(trained_on(), key=itemgetter(0)):
            rows: Iterator[Row] = (row for _, row in group)
            if name == "data":
                spec, tally = flow.specs[entry], splits[name].encoded_rows.tally
                rows = apply_entry_operations(
                    rows, spec, "training entry", tally, context=self.context, option=name
                )
            for row in rows:
                push(name, entry, row)
        for split, queue in waiting.items():
            if queue and line is not None:
                line.send(splits[split], queue[0][0], [row for _, row in queue])

    def _refuse_empty_split(self, splits: dict[str, Split]) -> None:
        if not self.options.hold_out:
            return
        train, held = splits["data"].original, splits["hold_out"].original
        if not train or not held:
            problem = "no row is left to train on" if held else "no row is held out"
            what = f"{problem}: {train + held} rows, hold_out {self.options.hold_out:g}"
            hint = "use more rows, another share, or eval_data"
            raise DataError(what, where=self.context.at("hold_out"), hint=hint)

    def _account(
        self, split: Split, trained: Split, shared: SharedPrompts, folder: Path
    ) -> dict[str, Any]:
        ledger = self._ledger(split, shared)
        found = _label_findings(split, trained)
        if self.longest is None:
            rows: RowStore[Any] = RowStore(folder / f"{split.name}.arrow", self.form)
            found |= outliers(rows, ledger.lengths)
        return {
            "ledger": asdict(replace(ledger, found=merge_counts(ledger.found, found))),
            "counts": split.counts,
            "too_long": split.encoded_rows.too_long,
            "too_long_rows": split.encoded_rows.too_long_rows,
        }

    def _ledger(self, split: Split, shared: SharedPrompts) -> Ledger:
        """Return the ledger of a split; findings of reading count once, in the training split."""
        before = self._flow(split.name).ledger()
        if split.name == "hold_out":
            name = f"{before.name} (held out)"
            before = Ledger(name=name, read=split.given, converted=split.given)
        else:
            elsewhere = before.used - split.given
            before = replace(before, converted=before.converted - elsewhere)
        encoded_rows = split.encoded_rows
        found = merge_counts(before.found, encoded_rows.tally.found)
        if split.name == "eval_data":
            found = merge_counts(found, shared.found())
        return replace(
            before,
            used=len(encoded_rows.lengths),
            labels={name: count.rows for name, count in split.labels.items()},
            dropped=merge_counts(before.dropped, encoded_rows.tally.dropped),
            filtered=merge_counts(before.filtered, encoded_rows.tally.filtered),
            found=found,
            phrases={**before.phrases, **encoded_rows.tally.phrases},
            lengths=summarize_lengths(encoded_rows.lengths),
            tokens=encoded_rows.tokens,
            trained=encoded_rows.trained,
            truncated_tokens=encoded_rows.truncated_tokens,
            unknown_tokens=encoded_rows.unknown,
        )


def _label_findings(split: Split, trained: Split) -> dict[str, Count]:
    """Return the findings about the labels of a split, compared with those of the training split."""
    if split is trained:
        if len(split.labels) != 1:
            return {}
        ((name, count),) = split.labels.items()
        return {"one_label": replace(count, detail=name)}
    unseen = {name: count for name, count in split.labels.items() if name not in trained.labels}
    if not unseen:
        return {}
    both: dict[str, Count] = {}
    for count in unseen.values():
        both = merge_counts(both, {"": count})
    return {"unseen_labels": replace(both[""], detail=", ".join(unseen))}


def outliers(rows: RowStore[Any], lengths: Mapping[str, float]) -> dict[str, Count]:
    """Return the rows that are far longer than nearly all others, as a finding."""
    sizes = rows.sizes("length")
    far = numpy.flatnonzero(sizes > OUTLYING * lengths.get("p99", math.inf))
    if not len(far):
        return {}
    first = tuple(rows[int(index)].origin for index in far[:EXAMPLES])
    return {"outliers": Count(len(far), first, f"the longest has {int(sizes.max())} tokens")}
