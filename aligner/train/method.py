"""The torch half of an offline stage: rows become batches, and a trainer minimizes a loss of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from aligner.data.context import DataContext
from aligner.data.encoding.prepare import PreparedData
from aligner.data.encoding.prepare_rows import PREPARE_BY_KIND
from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.errors import error_location
from aligner.models.model_info import ModelInfo, planned_model
from aligner.models.policy import PreparedModel as PreparedModel
from aligner.models.policy import load_policy
from aligner.models.resolve import resolve, resolve_tokenizer
from aligner.models.save import save_model
from aligner.preview import PreviewRequest, PreviewSection
from aligner.registry import RowKind
from aligner.stage import PlanContext, SlotForecast, StepContext
from aligner.state import Artifact, ModelState, Slot
from aligner.train.options import OfflineOptions

O = TypeVar("O", bound=OfflineOptions)  # noqa: E741  # options


@dataclass(frozen=True, kw_only=True)
class TrainerInputs:
    """Arguments that a trainer is built from."""

    arguments: dict[str, Any]
    """Keyword arguments of transformers' `TrainingArguments`, or of any TRL config."""
    keywords: dict[str, Any]
    """Keyword arguments of transformers' `Trainer`, besides `args`."""
    reference: Any | None
    """The model in the reference slot; None where the policy itself is the reference."""


class TrainingMethod(ABC, Generic[O]):
    """Base of the ways to train: a subclass overrides what differs from most stages.

    The order in which a step calls these methods is the order in which they are defined.
    """

    has_reference: ClassVar[bool] = False
    """The policy is compared to a reference model."""

    def __init__(self, options: O) -> None:
        self.options = options

    # The model to start from.

    def base(self) -> tuple[str, str | None] | None:
        """Return folder or hub id, and revision, of a model and tokenizer to start from instead of the
        chain's policy. The option that names it is called `base`."""
        return None

    def incoming(self, slot: Slot, state: ModelState, context: StepContext) -> Artifact:
        """Return the policy or tokenizer to start from."""
        return self._base(context).get(slot) or state.get(slot)

    def _base(self, context: PlanContext | StepContext) -> dict[Slot, Artifact]:
        named = self.base()
        if named is None:
            return {}
        path, revision = named
        local = context.recipe_folder / path
        path = str(local) if local.is_dir() else path
        with error_location(context.at("base")):
            return {
                "policy": resolve(path, revision),
                "tokenizer": resolve_tokenizer(path, revision),
            }

    # Planning: no weights are loaded.

    def incoming_slots(self, context: PlanContext) -> Mapping[Slot, SlotForecast]:
        """Return the slots that the step starts from; override if it creates some itself."""
        return dict(context.slots) | {
            slot: SlotForecast(made_by=artifact.path, facts={"artifact": artifact})
            for slot, artifact in self._base(context).items()
        }

    def model_info(self, context: PlanContext) -> ModelInfo:
        """Return what is known of the model to train; `context` has the incoming slots."""
        return planned_model(context, "policy")

    def planned_rows(self, data: PreparedData[Any]) -> int:
        """Count the rows of an epoch as the plan shows them."""
        return len(data.train)

    def batched_rows(self, data: PreparedData[Any]) -> int:
        """Count the rows that batches are made of: bins, if rows are packed."""
        return self.planned_rows(data)

    # Rows, in plan, preview and run alike.

    def prepare(self, reads: RowKind, context: DataContext, tokenizer: Any) -> PreparedData[Any]:
        """Load, split and tokenize the step's rows."""
        return PREPARE_BY_KIND[reads](context, self.options, tokenizer)

    @property
    def sampling_strategy(self) -> str:
        """Order of rows in training; for `group_by_length`, rows have a `length`."""
        return self.options.train_sampling_strategy

    @abstractmethod
    def rows(self, split: Sequence[Any], *, held_out: bool) -> Sequence[Mapping[str, Any]]:
        """Return the rows as the collator reads them, and their `length`, each built when it is read."""

    @abstractmethod
    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return the function that makes a batch of rows."""

    @abstractmethod
    def preview(
        self,
        split: Sequence[Any],
        tokenizer: Any,
        *,
        request: PreviewRequest,
        context: PlanContext,
    ) -> PreviewSection:
        """Show the requested rows in the batches that the collator makes of them."""

    # Training.

    def tokenizer(self, state: ModelState, context: StepContext) -> Any:
        """Return the tokenizer the step uses."""
        return load_tokenizer(self.incoming("tokenizer", state, context), context.model_cache)

    def load(
        self, state: ModelState, context: StepContext, tokenizer: Any, *, stage: str
    ) -> PreparedModel:
        """Load the model to train and prepare its adapters."""
        return load_policy(
            self.incoming("policy", state, context),
            context.model_cache,
            self.options,
            step=stage,
            seed=context.seed,
        )

    @abstractmethod
    def trainer(self, inputs: TrainerInputs, tokenizer: Any) -> Any:
        """Build the trainer; its class inherits `StepTrainer`."""

    def check(self, first: Mapping[str, float], state: ModelState, context: StepContext) -> None:
        """Raise StageError if the metrics of the first optimizer step show an error.

        Not called with metrics if the step resumed from a checkpoint: `first` is empty then.
        """

    def save(
        self, prepared: PreparedModel, tokenizer: Any, context: StepContext, *, slot: Slot
    ) -> dict[Slot, Artifact]:
        """Save the trained model; return the artifacts of the slots that the stage provides."""
        if slot != "policy":
            # Such a model reads text through the tokenizer it was trained with, not the policy's.
            save_tokenizer(tokenizer, context.folder / slot)
        artifact = save_model(
            prepared.model,
            context.folder / slot,
            model_cache=context.model_cache,
            base=prepared.base,
            made_by=context.step,
        )
        return {slot: artifact}
