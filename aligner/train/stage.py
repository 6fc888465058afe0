"""The offline door: stages that train on rows which exist before the step starts. Loads no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, TypeVar

from aligner.preview import PreviewRequest, PreviewSection
from aligner.registry import RowKind
from aligner.stage import Plan, PlanContext, Stage, StepContext
from aligner.state import ModelState, Slot
from aligner.train.declaration import Declaration
from aligner.train.options import OfflineOptions, PreferenceOptions

if TYPE_CHECKING:
    from aligner.train.method import TrainingMethod

O = TypeVar("O", bound=OfflineOptions)  # noqa: E741  # options, as C in `Stage`
P = TypeVar("P", bound=PreferenceOptions)


class OfflineStage(Stage[O], abstract=True):
    """A stage that trains a model on rows that exist before the step starts.

    A subclass sets `name` and `reads`, describes a step in one line with `summary`, and returns its
    torch half from `method`. Plan, preview, validation, early stopping, checkpoints, resumption,
    several processes and saving are implemented here.
    """

    reads: ClassVar[RowKind]
    """Kind of the rows: `text`, `conversation`, `preference` or `label`."""
    trains: ClassVar[Slot] = "policy"
    """Slot that receives the trained model."""
    metrics: ClassVar[Mapping[str, str]] = MappingProxyType({"loss": "loss"})
    """Final metrics: the name that gates use, and the name in the trainer's log. Where rows are held
    out, each is recorded for them too, as `eval_` and its name."""

    @property
    def requires(self) -> frozenset[Slot]:
        return frozenset({"policy", "tokenizer"})

    @property
    def provides(self) -> frozenset[Slot]:
        return frozenset({self.trains})

    @abstractmethod
    def summary(self, context: PlanContext) -> str:
        """Describe the step in one line, with the options that matter; shown in the plan."""

    @abstractmethod
    def method(self) -> TrainingMethod[O]:
        """Return the torch half: rows, batches, trainer. Import it inside this method."""

    def plan(self, context: PlanContext) -> Plan:
        from aligner.train.steps import plan_step  # tokenizers load when a recipe is checked

        return plan_step(self.method(), self._declaration(), context, self.summary)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner.train.steps import preview_step  # collators load when rows are previewed

        return preview_step(self.method(), self._declaration(), context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner.train.steps import train_step  # trainers load when the step runs

        artifacts = train_step(self.method(), self._declaration(), state, context)
        return state.put(context.step, **artifacts)

    def _declaration(self) -> Declaration:
        return Declaration(
            stage=self.name,
            reads=self.reads,
            trains=self.trains,
            provides=self.provides,
            metrics=self.metrics,
        )


class PreferenceStage(OfflineStage[P], abstract=True):
    """A stage that trains the policy on preference pairs, relative to a reference model.

    A subclass sets `name` and returns a `PreferenceMethod` with its loss. The reference is the model
    in the reference slot, otherwise the policy as the step found it; its log-probabilities are
    computed once, before training.
    """

    reads: ClassVar[RowKind] = "preference"
    metrics = MappingProxyType(
        {"loss": "loss", "accuracy": "rewards/accuracies", "margin": "rewards/margins"}
    )

    @property
    def uses(self) -> frozenset[Slot]:
        return frozenset({"reference"})

    def summary(self, context: PlanContext) -> str:
        options = self.options
        return f"prefer chosen over rejected, beta {options.beta:g}, learning rate {options.learning_rate:g}"
