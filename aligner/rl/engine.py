"""Heavy half of every online stage: plan, preview and run, around its algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aligner.preview import PreviewRequest, PreviewSection
from aligner.rl.algorithm import Algorithm
from aligner.rl.plan import plan_online
from aligner.rl.preview import preview_online
from aligner.rl.run import run_online
from aligner.stage import Plan, PlanContext, StepContext
from aligner.state import ModelState


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An online stage at work."""

    stage: str
    """Name of the stage."""
    algorithm: Algorithm[Any]

    def plan(self, context: PlanContext) -> Plan:
        """Check the step, and return its plan."""
        return plan_online(self.algorithm, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        """Show some prompts as the policy receives them."""
        return preview_online(self.algorithm.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        """Train, and fill the slots of the stage."""
        saved = run_online(self.algorithm, state, context, stage=self.stage)
        return state.put(context.step, **saved)
