"""Declaration of the chat stage."""

from __future__ import annotations

from aligner import ModelState, Plan, PlanContext, Stage, StepContext
from aligner_chat.options import ChatOptions


class Chat(Stage[ChatOptions]):
    """Set the tokenizer's chat template and special tokens, and resize the policy's embeddings."""

    name = "chat"
    requires = frozenset({"tokenizer", "policy"})
    provides = frozenset({"tokenizer", "policy"})

    # torch and transformers load when a step is planned, not when the stage is found.

    def plan(self, context: PlanContext) -> Plan:
        from aligner_chat.plan import plan

        return plan(self.options, context)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_chat.run import run

        return state.put(context.step, **run(self.options, state, context))
