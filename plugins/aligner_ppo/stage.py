"""What the ppo stage takes, reads and writes."""

from __future__ import annotations

from aligner import Look, ModelState, Plan, Run, Slot, Stage
from aligner.preview import Asked, Section
from aligner.train.reward_spec import MODEL
from aligner_ppo.options import PPOConfig


class PPO(Stage[PPOConfig]):
    """Let the policy answer prompts, and make what earns reward likelier, held to a reference."""

    name = "ppo"
    provides = frozenset({"policy", "value"})

    @property
    def requires(self) -> frozenset[Slot]:
        by_model = any(reward.name == MODEL for reward in self.config.rewards)
        needed: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        return needed | {"reward"} if by_model or self.config.value_from == "reward" else needed

    @property
    def uses(self) -> frozenset[Slot]:
        from_slot: frozenset[Slot] = frozenset({"value"})
        other: frozenset[Slot] = frozenset({"reference"})
        return other | from_slot if self.config.value_from == "auto" else other

    def plan(self, look: Look) -> Plan:
        from aligner_ppo.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.config, look)

    def preview(self, look: Look, asked: Asked) -> tuple[Section, ...]:
        from aligner_ppo.preview import preview  # the collator waits until a recipe is looked at

        return preview(self.config, look, asked)

    def run(self, state: ModelState, run: Run) -> ModelState:
        from aligner_ppo.step import step  # torch waits until a step really runs

        policy, value = step(self.config, state, run)
        return state.put(run.step, policy=policy, value=value)
