"""Declaration of an online algorithm: from scores to advantages, and the loss that is minimized.

Shapes as in `experience`; M response tokens of a micro-batch in one row without padding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from aligner.models.language_model import LanguageModel
from aligner.models.model_info import ModelInfo, PlannedTraining
from aligner.models.policy import PreparedModel
from aligner.rl.experience import AdvantageTargets, Experience
from aligner.rl.options import RLOptions
from aligner.rl.value import ValueFunction
from aligner.stage import PlanContext, SlotForecast, StepContext
from aligner.state import Artifact, ModelState, Slot

OptionsT = TypeVar("OptionsT", bound=RLOptions)

ValueFactory = Callable[[PreparedModel, LanguageModel], ValueFunction]
"""Makes the value function from the prepared policy and its trunk and head."""


@dataclass(frozen=True, kw_only=True)
class StepSize:
    """Size of one optimizer step: all micro-batches and processes whose losses are added up."""

    completions: int
    tokens: int
    """Response tokens."""
    micro_batches: int


@dataclass(frozen=True, kw_only=True)
class LossBatch:
    """One micro-batch of an optimizer step: outputs of the policy, and access to the targets."""

    places: Sequence[int]
    """Which of the N responses these are."""
    index: tuple[Tensor, Tensor]
    """Their tokens in an (N, R) tensor."""
    lengths: Sequence[int]
    """Tokens of each response."""
    logps_M: Tensor
    """Under the policy, with gradient."""
    entropies_M: Tensor | None
    """Given where the entropy is part of the loss."""
    values_M: Tensor | None
    """Estimates of the value function, with gradient."""
    experience: Experience
    targets: AdvantageTargets
    step: StepSize

    def tokens(self, tensor_NR: Tensor) -> Tensor:
        """Select the tokens (M,) of this micro-batch, on its device."""
        return tensor_NR[self.index].to(self.logps_M.device)


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """Part of the loss that a micro-batch contributes, and of the metrics of its optimizer step."""

    loss: Tensor
    metrics: Mapping[str, Tensor]
    """The parts of all micro-batches and processes add up to the metric of the optimizer step."""


@dataclass(frozen=True, kw_only=True)
class PlanAddition:
    """Additions of an algorithm to the plan of its step."""

    metrics: frozenset[str] = frozenset()
    slots: Mapping[Slot, SlotForecast] = field(default_factory=dict)
    trained: Mapping[str, int] = field(default_factory=dict)
    """Trained parameters besides the policy's, by the name of the model that has them."""
    notes: tuple[str, ...] = ()


class Algorithm(ABC, Generic[OptionsT]):
    """Torch half of an online stage: advantages from scores, and the loss.

    The losses of the micro-batches of an optimizer step are summed, over processes too: each is to
    be divided by sizes in `LossBatch.step`, never by its own size.
    """

    loss_metrics: ClassVar[tuple[str, ...]]
    """Names of all metrics of `loss`; a process without responses reports them as 0."""
    advantage_metrics: ClassVar[tuple[str, ...]] = ()
    """Names of all metrics of `advantages`."""

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    @abstractmethod
    def describe(self) -> str:
        """Return the part of the plan's summary that names the algorithm's settings."""

    @abstractmethod
    def advantages(self, experience: Experience) -> AdvantageTargets:
        """Compute the advantage of each token from the iteration's responses on all processes."""

    @abstractmethod
    def loss(self, batch: LossBatch) -> LossOutput:
        """Compute the loss of one micro-batch."""

    def value_factory(
        self, state: ModelState, context: StepContext, tokenizer: Any
    ) -> ValueFactory | None:
        """Prepare the value function before the policy is loaded; None for no value function."""
        return None

    def value_saver(
        self, value: ValueFunction, context: StepContext
    ) -> Callable[[Artifact], Mapping[Slot, Artifact]]:
        """Return a function that saves the value function and returns what fills its slot.

        It is called with the saved policy, whose saving takes other adapters off: weights on the
        policy's modules must be copied before this returns.
        """
        raise NotImplementedError

    def plan(
        self, training: PlannedTraining, info: ModelInfo, context: PlanContext
    ) -> PlanAddition:
        """Return the algorithm's own part of the plan.

        Raises:
            AlignerError: an option does not fit the models of the chain.
        """
        return PlanAddition()


def ratio_metrics(logps_M: Tensor, old_logps_M: Tensor, *, tokens: int) -> dict[str, Tensor]:
    """Measure the distance of the policy from the one that generated the responses.

    `ratio` is the mean of π/π_old, exactly 1 in the first minibatch of an iteration. `step_kl` is
    KL(π_old ‖ π), by k3 over samples of π_old.
    """
    with torch.no_grad():
        log_ratio_M = logps_M - old_logps_M
        ratio_M = log_ratio_M.exp()
        step_kl_M = ratio_M - 1.0 - log_ratio_M
    return {"ratio": ratio_M.sum() / tokens, "step_kl": step_kl_M.sum() / tokens}
