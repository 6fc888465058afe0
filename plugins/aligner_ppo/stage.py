"""What the ppo stage takes, reads and writes."""

from __future__ import annotations

from aligner import ModelState, Plan, PlanContext, Slot, Stage, StepContext
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.reward_options import MODEL
from aligner_ppo.options import PPOOptions


class PPO(Stage[PPOOptions]):
    """Let the policy answer prompts, and make what earns reward likelier, held to a reference."""

    name = "ppo"
    provides = frozenset({"policy", "value"})

    @property
    def requires(self) -> frozenset[Slot]:
        by_model = any(reward.name == MODEL for reward in self.options.rewards)
        needed: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        return needed | {"reward"} if by_model or self.options.value_from == "reward" else needed

    @property
    def uses(self) -> frozenset[Slot]:
        from_slot: frozenset[Slot] = frozenset({"value"})
        other: frozenset[Slot] = frozenset({"reference"})
        return other | from_slot if self.options.value_from == "auto" else other

    def plan(self, context: PlanContext) -> Plan:
        from aligner_ppo.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_ppo.preview import preview  # the collator waits until a recipe is looked at

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_ppo.step import step  # torch waits until a step really runs

        policy, value = step(self.options, state, context)
        return state.put(context.step, policy=policy, value=value)
