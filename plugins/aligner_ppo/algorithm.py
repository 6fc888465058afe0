"""PPO on the RL engine: advantages by GAE, clipped losses, and a value function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from aligner import Artifact, ModelState, PlanContext, Slot, SlotForecast, StepContext
from aligner.kit.work import (
    AdvantageTargets,
    Algorithm,
    Experience,
    LossBatch,
    LossOutput,
    ModelInfo,
    PlanAddition,
    PlannedTraining,
    ValueFactory,
    ValueFunction,
    kl_estimate,
    planned_model,
    reward_info,
    whiten,
)
from aligner_ppo.advantages import generalized_advantages, token_rewards
from aligner_ppo.loss import explained_variance, policy_loss, value_loss
from aligner_ppo.options import PPOOptions
from aligner_ppo.value_plan import NOTES, planned_kind
from aligner_ppo.value_slot import value_factory, value_saver


class PPOAlgorithm(Algorithm[PPOOptions]):
    """Proximal policy optimization (Schulman 2017)."""

    loss_metrics = ("policy_loss", "value_loss", "clip_fraction", "value_clip_fraction")
    advantage_metrics = ("explained_variance",)

    def describe(self) -> str:
        return self.options.describe_kl(self.options.kl_estimator)

    def advantages(self, experience: Experience) -> AdvantageTargets:
        options, old = self.options, experience.old
        mask_NR = experience.rollouts.mask_NR
        values = old.values
        assert values is not None, "PPO has a value function"
        kl_NR = kl_estimate(old.logps_NR, old.reference_logps_NR, estimator=options.kl_estimator)
        rewards_NR = token_rewards(
            experience.scores_N, kl_NR, mask_NR, coefficient=experience.kl_coefficient
        )
        ended_N = experience.rollouts.ended_N
        continues_N = ~ended_N if options.bootstrap_truncated else torch.zeros(len(ended_N))
        advantages_NR, returns_NR = generalized_advantages(
            rewards_NR,
            values.values_NR,
            values.last_N * continues_N,
            mask_NR,
            gamma=options.gamma,
            lam=options.lam,
        )
        if options.whiten_advantages:
            advantages_NR = whiten(advantages_NR, mask_NR)
        explained = explained_variance(values.values_NR[mask_NR], returns_NR[mask_NR])
        return AdvantageTargets(
            advantages_NR=advantages_NR,
            returns_NR=returns_NR,
            metrics={"explained_variance": explained},
        )

    def loss(self, batch: LossBatch) -> LossOutput:
        options, old, targets = self.options, batch.experience.old, batch.targets
        assert batch.values_M is not None, "PPO has a value function"
        assert old.values is not None, "PPO has a value function"
        assert targets.returns_NR is not None, "advantages come with returns"
        policy = policy_loss(
            batch.logps_M,
            batch.tokens(old.logps_NR),
            batch.tokens(targets.advantages_NR),
            epsilon=options.epsilon,
            epsilon_high=options.epsilon_high or options.epsilon,
            count=batch.step.tokens,
        )
        value = value_loss(
            batch.values_M,
            batch.tokens(old.values.values_NR),
            batch.tokens(targets.returns_NR),
            clip=options.cliprange_value,
            count=batch.step.tokens,
        )
        return LossOutput(
            loss=policy.loss + options.vf_coef * value.loss,
            metrics={
                "policy_loss": policy.loss.detach(),
                "value_loss": value.loss.detach(),
                "clip_fraction": policy.clip_fraction,
                "value_clip_fraction": value.clip_fraction.detach(),
            },
        )

    def value_factory(
        self, state: ModelState, context: StepContext, tokenizer: Any
    ) -> ValueFactory:
        return value_factory(self.options, state, context, pad=tokenizer.pad_token_id)

    def value_saver(
        self, value: ValueFunction, context: StepContext
    ) -> Callable[[Artifact], Mapping[Slot, Artifact]]:
        return value_saver(value, context)

    def plan(
        self, training: PlannedTraining, info: ModelInfo, context: PlanContext
    ) -> PlanAddition:
        kind = planned_kind(self.options, training, context)
        trained = {}
        if kind == "model":
            from_reward = self.options.value_from == "reward"
            start = planned_model(context, "reward") if from_reward else reward_info(info)
            trained = {"value": start.parameters}
        elif kind == "adapter":
            trained = {"value": training.trained}
        return PlanAddition(
            metrics=frozenset({"value", "value_grad_norm"}),
            slots={"value": SlotForecast(made_by=context.step, facts={"value": kind})},
            trained=trained,
            notes=(f"value: {NOTES[kind]}",),
        )
