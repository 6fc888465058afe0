"""Declaration of the evaluate stage."""

from __future__ import annotations

from aligner import ModelState, Plan, PlanContext, Slot, Stage, StepContext
from aligner.kit.declare import PreviewRequest, PreviewSection
from aligner_evaluate.options import EvaluateOptions


class Evaluate(Stage[EvaluateOptions]):
    """Measure the policy, and the reward model, without changing them."""

    name = "evaluate"
    provides = frozenset()

    @property
    def requires(self) -> frozenset[Slot]:
        slots: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        return slots | {"reward"} if self.options.pairs else slots

    @property
    def uses(self) -> frozenset[Slot]:
        scored = self.options.prompts is not None and self.options.reward_model
        return frozenset({"reward"}) if scored else frozenset()

    @property
    def earlier_steps(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.options.against, *self.options.kl_to)))

    # torch and transformers load when a step is planned, not when the stage is found.

    def plan(self, context: PlanContext) -> Plan:
        from aligner_evaluate.plan import plan

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_evaluate.preview import preview

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_evaluate.evaluation import evaluate

        evaluate(self.options, state, context)
        return state
