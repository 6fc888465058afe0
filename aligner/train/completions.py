"""Rows of one prompt and one or more completions: their batches, and how previews show them.

Shapes: B rows, K completions a row, N = K·B sequences, T tokens. The sequences of a batch are K blocks
of B: for pairs, all chosen completions, then all rejected ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from aligner.data.context import DataContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import PreparedData
from aligner.data.store.lazy_rows import MappedRows
from aligner.errors import ErrorGroup, error_location
from aligner.models.model_info import pad_errors
from aligner.models.padding import pad_id
from aligner.preview import PreviewRequest, PreviewSection, TokenSequence
from aligner.registry import RowKind
from aligner.stage import PlanContext
from aligner.train.batch_reader import BatchReader, after_first, shared_prompt_length
from aligner.train.method import TrainingMethod
from aligner.train.options import OfflineOptions
from aligner.train.preview import GROUPED, RowSequences, preview_section

O = TypeVar("O", bound=OfflineOptions)  # noqa: E741  # options

REFERENCE = "ref_{}_logps"
"""Column with the reference's log-probability of a completion, summed over its tokens."""


class CompletionCollator:
    """Collator of rows with one prompt and K completions, padded on the right."""

    def __init__(self, sides: Sequence[str], *, pad: int) -> None:
        """Args:
        sides: Names of the completions; a row has the columns `prompt_ids` and `SIDE_ids`.
        pad: Token id of padding.
        """
        self._sides, self._pad = tuple(sides), pad

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `completion_mask` (N, T), `ref_logps` (N,) where
        the rows have them, and every further column that holds a number, (B,)."""
        pairs = [(row["prompt_ids"], row[f"{side}_ids"]) for side in self._sides for row in rows]
        longest = max(len(prompt) + len(completion) for prompt, completion in pairs)
        shape = (len(pairs), longest)
        ids_NT = torch.full(shape, self._pad, dtype=torch.long)
        present_NT, completion_NT = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
        for place, (prompt, completion) in enumerate(pairs):
            end = len(prompt) + len(completion)
            ids_NT[place, :end] = torch.tensor([*prompt, *completion])
            present_NT[place, :end] = 1
            completion_NT[place, len(prompt) : end] = 1
        batch = {
            "input_ids": ids_NT,
            "attention_mask": present_NT,
            "completion_mask": completion_NT,
        }
        reference = [REFERENCE.format(side) for side in self._sides]
        if reference[0] in rows[0]:
            batch["ref_logps"] = torch.tensor([row[name] for name in reference for row in rows])
        for name, value in rows[0].items():
            if name not in reference and isinstance(value, int | float):
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch


class CompletionMethod(TrainingMethod[O]):
    """Base of methods for rows with a prompt (`prompt_ids`) and one or more completions (`SIDE_ids`)."""

    sides: tuple[str, ...]
    """Names of a row's completions."""
    sides_without_gradient: int = 0
    """Number of sides, the last ones, that the loss reads and that are not trained."""
    scored: ClassVar[Literal["tokens", "end"]] = "tokens"
    """Part of a completion that enters the loss: its tokens, or a score that is read at its end."""

    def prepare(self, reads: RowKind, context: DataContext, tokenizer: Any) -> PreparedData[Any]:
        if self.scored == "end":
            with error_location(context.at("data")):
                ErrorGroup.raise_if_any(pad_errors(tokenizer.pad_token_id, tokenizer.eos_token_id))
        return super().prepare(reads, context, tokenizer)

    def rows(self, split: Sequence[Any], *, held_out: bool) -> Sequence[Mapping[str, Any]]:
        columns = self.columns(split)

        def build(row: Any) -> dict[str, Any]:
            completions = {f"{side}_ids": getattr(row, f"{side}_ids") for side in self.sides}
            length = len(row.prompt_ids) + max(map(len, completions.values()))
            added = {name: value(row) for name, value in columns.items()}
            return {"prompt_ids": row.prompt_ids, **completions, "length": length, **added}

        return MappedRows(split, build)

    def columns(self, split: Sequence[Any]) -> Mapping[str, Callable[[Any], float]]:
        """Return further columns, numbers: by name, a function of the tokenized row."""
        return {}

    def collator(self, tokenizer: Any) -> CompletionCollator:
        return CompletionCollator(self.sides, pad=pad_id(tokenizer))

    def preview(
        self,
        split: Sequence[Any],
        tokenizer: Any,
        *,
        request: PreviewRequest,
        context: PlanContext,
    ) -> PreviewSection:
        word = "trained" if self.scored == "tokens" else "scored"
        # A score is read at the last token, whatever that is: no stop token is missing there.
        stops = stop_tokens(tokenizer) if self.scored == "tokens" else ()
        grouped = self.sampling_strategy == "group_by_length"
        collate, reader = (
            self.collator(tokenizer),
            BatchReader(tokenizer, stops=stops, trained_label=word),
        )

        def lay(rows: Sequence[Any]) -> list[RowSequences]:
            batch = collate(list(self.rows(rows, held_out=request.held_out)))
            return self._read_batch(batch, rows, reader)

        return preview_section(
            split,
            request,
            lay,
            context=context,
            size=self.options.per_device_train_batch_size,
            trained_label=word,
            notes=(GROUPED,) if grouped and not request.held_out else (),
        )

    def _read_batch(
        self, batch: Mapping[str, Tensor], rows: Sequence[Any], reader: BatchReader
    ) -> list[RowSequences]:
        names = ("input_ids", "completion_mask", "attention_mask")
        tensors = zip(*(batch[name].tolist() for name in names), strict=True)
        sequences = [
            self._read_sequence(reader, ids, mask, present, self.sides[place // len(rows)])
            for place, (ids, mask, present) in enumerate(tensors)
        ]
        columns = [name for name, values in batch.items() if values.dim() == 1 and name != "length"]
        by_row = [tuple(sequences[place :: len(rows)]) for place in range(len(rows))]
        return [
            RowSequences(
                sequences=of_row,
                prompt_length=shared_prompt_length(of_row, most=len(row.prompt_ids)),
                details=tuple(f"{name} {batch[name][place]:g}" for name in columns),
            )
            for place, (row, of_row) in enumerate(zip(rows, by_row, strict=True))
        ]

    def _read_sequence(
        self,
        reader: BatchReader,
        ids: list[int],
        completion: list[int],
        present: list[int],
        name: str,
    ) -> TokenSequence:
        if self.scored == "end":
            return reader.scored_sequence(ids, present, pad=pad_id(reader.tokenizer), name=name)
        if self.sides.index(name) >= len(self.sides) - self.sides_without_gradient:
            note = "not trained: the loss reads its log-probability without a gradient"
            return reader.sequence(ids, [0] * len(ids), present, name=name, notes=(note,))
        return reader.sequence(ids, after_first(completion), present, name=name)
