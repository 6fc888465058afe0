"""Train a causal language model on rows of tokens, as pretraining and supervised fine-tuning do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from trl import SFTConfig, SFTTrainer

from aligner.data.context import DataContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import PreparedData, prepare_conversations, prepare_texts
from aligner.data.options import TrainOn
from aligner.models.policy import PreparedModel as PreparedModel
from aligner.models.restore import base_model
from aligner.models.tokens import set_token_ids
from aligner.preview import PreviewRequest, PreviewSection
from aligner.registry import RowKind
from aligner.stage import PlanContext, StepContext
from aligner.state import ModelState
from aligner.train.batch_reader import BatchReader
from aligner.train.collating import language_collator
from aligner.train.method import TrainerInputs, TrainingMethod
from aligner.train.options import OfflineOptions
from aligner.train.packing import LanguageRows, PackedRows, StreamedRows, streamed_rows
from aligner.train.preview import GROUPED
from aligner.train.preview_language import language_section
from aligner.train.trainer import StepTrainer

O = TypeVar("O", bound=OfflineOptions)  # noqa: E741  # options


class _LanguageTrainer(StepTrainer, SFTTrainer):
    """TRL's trainer, on rows that are tokenized already."""


class LanguageMethod(TrainingMethod[O]):
    """Training by the negative log-likelihood of tokens.

    Rows are documents, all of whose tokens are trained, or conversations, whose mask is `train_on`.
    """

    def __init__(
        self,
        options: O,
        *,
        train_on: TrainOn | None = None,
        pack_to: int | None = None,
        stream_to: int | None = None,
        loss_type: Literal["nll", "dft"] = "nll",
    ) -> None:
        """Args:
        options: The stage's.
        train_on: Trained tokens of conversations; None if the rows are documents.
        pack_to: Pack whole rows into bins of this many tokens; rows in a bin do not see one another.
        stream_to: Join documents end to end and split them into rows of this many tokens.
        loss_type: `nll`, or `dft` (dynamic fine-tuning, Wu 2025).
        """
        super().__init__(options)
        self._train_on, self._loss_type = train_on, loss_type
        self._pack_to, self._stream_to = pack_to, stream_to

    def planned_rows(self, data: PreparedData[Any]) -> int:
        if self._stream_to is not None:
            return streamed_rows(data.tokens, self._stream_to)
        return len(data.train)

    def batched_rows(self, data: PreparedData[Any]) -> int:
        if self._pack_to is not None:
            return len(self.rows(data.train, held_out=False))
        return self.planned_rows(data)

    def prepare(self, reads: RowKind, context: DataContext, tokenizer: Any) -> PreparedData[Any]:
        if self._train_on is not None:
            return prepare_conversations(context, self.options, tokenizer, train_on=self._train_on)
        if self._stream_to is not None:
            # Documents stay whole here: they are split only after they are joined.
            whole = self.options.model_copy(update={"max_length": None})
            return prepare_texts(context, whole, tokenizer)
        return super().prepare(reads, context, tokenizer)

    @property
    def sampling_strategy(self) -> str:
        grouped = super().sampling_strategy == "group_by_length"
        # Bins have nearly the same length already.
        return "random" if grouped and self._pack_to is not None else super().sampling_strategy

    def rows(self, split: Sequence[Any], *, held_out: bool) -> LanguageRows:
        if self._stream_to is not None:
            return StreamedRows(split, self._stream_to)
        if self._pack_to is not None and not held_out:
            return PackedRows(split, self._pack_to)
        return LanguageRows(split)

    def collator(self, tokenizer: Any) -> Any:
        return language_collator(tokenizer, packed=self._pack_to is not None)

    def preview(
        self,
        split: Sequence[Any],
        tokenizer: Any,
        *,
        request: PreviewRequest,
        context: PlanContext,
    ) -> PreviewSection:
        grouped = self.sampling_strategy == "group_by_length" and self._stream_to is None
        stops = stop_tokens(tokenizer) if self._train_on is not None else ()
        return language_section(
            self.rows(split, held_out=request.held_out),
            request,
            BatchReader(tokenizer, stops=stops),
            tokenizer,
            context=context,
            size=self.options.per_device_train_batch_size,
            joined=self._pack_to is not None,
            notes=(GROUPED,) if grouped and not request.held_out else (),
        )

    def load(
        self, state: ModelState, context: StepContext, tokenizer: Any, *, stage: str
    ) -> PreparedModel:
        prepared = super().load(state, context, tokenizer, stage=stage)
        if self._train_on is not None and prepared.base is None:
            # New weights are saved: with them, how this tokenizer's completions begin, end and are padded.
            model = base_model(prepared.model)
            set_token_ids(model, tokenizer, stop_ids=stop_tokens(tokenizer))
        return prepared

    def trainer(self, inputs: TrainerInputs, tokenizer: Any) -> _LanguageTrainer:
        keywords = dict(inputs.keywords)
        collator = keywords.pop("data_collator")
        trainer = _LanguageTrainer(
            args=SFTConfig(
                **inputs.arguments,
                max_length=None,
                remove_unused_columns=False,
                padding_free=self._pack_to is not None,
                loss_type=self._loss_type,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            **keywords,
        )
        trainer.data_collator = collator  # only now: TRL refuses one where rows are packed
        return trainer
