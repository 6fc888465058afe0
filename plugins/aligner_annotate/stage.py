"""Declarations of the annotate and paraphrase stages."""

from __future__ import annotations

from aligner import ModelState, Plan, PlanContext, Slot, Stage, StepContext
from aligner.kit.declare import PreviewRequest, PreviewSection
from aligner_annotate.options import AnnotateOptions, ParaphraseOptions

# torch and transformers load when a step is planned, not when the stages are found.


class Annotate(Stage[AnnotateOptions]):
    """Let the policy complete prompts, score the completions, and make rows for later steps."""

    name = "annotate"
    provides = frozenset({"data"})

    @property
    def requires(self) -> frozenset[Slot]:
        slots: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        return slots | {"reward"} if self.options.by_model else slots

    @property
    def earlier_steps(self) -> tuple[str, ...]:
        judge = self.options.judge
        return (judge.of,) if judge is not None and judge.of is not None else ()

    def plan(self, context: PlanContext) -> Plan:
        from aligner_annotate.plan import plan_annotate

        return plan_annotate(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_annotate.preview import preview_annotate

        return preview_annotate(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_annotate.annotation import annotate

        return state.put(context.step, data=annotate(self.options, state, context))


class Paraphrase(Stage[ParaphraseOptions]):
    """Let the policy paraphrase user turns, and make rows that keep their answers."""

    name = "paraphrase"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"data"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_annotate.plan import plan_paraphrase

        return plan_paraphrase(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_annotate.preview import preview_paraphrase

        return preview_paraphrase(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_annotate.paraphrasing import paraphrase

        return state.put(context.step, data=paraphrase(self.options, state, context))
