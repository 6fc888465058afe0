"""Base class of online stages: the policy generates responses, and is trained on their rewards."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from aligner.preview import PreviewRequest, PreviewSection
from aligner.rl.options import RLOptions
from aligner.stage import Plan, PlanContext, Stage, StepContext
from aligner.state import ModelState, Slot
from aligner.train.reward_options import MODEL

if TYPE_CHECKING:
    from aligner.rl.algorithm import Algorithm
    from aligner.rl.engine import Engine

OptionsT = TypeVar("OptionsT", bound=RLOptions)


class OnlineStage(Stage[OptionsT], abstract=True):
    """A stage on the RL engine: give it a name, options, and an algorithm.

    The engine reads prompts, generates responses, scores them, checks guards, runs the optimizer
    loop, keeps checkpoints, shares the work among processes, plans, previews and saves.
    """

    provides: frozenset[Slot] = frozenset({"policy"})

    @abstractmethod
    def algorithm(self) -> Algorithm[Any]:
        """Return the algorithm. Import its module here: it needs torch, and a declaration must not."""

    @property
    def requires(self) -> frozenset[Slot]:
        needed: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        scored_by_model = any(reward.name == MODEL for reward in self.options.rewards)
        return needed | {"reward"} if scored_by_model else needed

    @property
    def uses(self) -> frozenset[Slot]:
        return frozenset({"reference"})

    def plan(self, context: PlanContext) -> Plan:
        return self._engine().plan(context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        return self._engine().preview(context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        return self._engine().run(state, context)

    def _engine(self) -> Engine:
        from aligner.rl.engine import Engine  # torch is imported when a step is planned

        return Engine(stage=self.name, algorithm=self.algorithm())
