"""GRPO on the RL engine: advantages within groups, and the clipped policy loss."""

from __future__ import annotations

import torch

from aligner.kit.work import AdvantageTargets, Algorithm, Experience, LossBatch, LossOutput
from aligner_grpo.loss import ResponseLogps, group_advantages, grpo_loss
from aligner_grpo.options import GRPOOptions


class GRPOAlgorithm(Algorithm[GRPOOptions]):
    """Group relative policy optimization (Shao 2024)."""

    loss_metrics = ("policy_loss", "clip_ratio_low", "clip_ratio_high")
    advantage_metrics = ("frac_reward_zero_std",)

    def describe(self) -> str:
        return f"loss {self.options.loss_type}, {self.options.describe_kl('k3')}"

    def advantages(self, experience: Experience) -> AdvantageTargets:
        advantages_N, zero_std_N = group_advantages(
            experience.scores_N,
            num_generations=self.options.num_generations,
            scale_rewards=self.options.scale_rewards,
        )
        mask_NR = experience.rollouts.mask_NR
        return AdvantageTargets(
            advantages_NR=torch.where(mask_NR, advantages_N[:, None], 0.0),
            metrics={"frac_reward_zero_std": float(zero_std_N.double().mean())},
        )

    def loss(self, batch: LossBatch) -> LossOutput:
        old, device = batch.experience.old, batch.logps_M.device
        tokens = ResponseLogps(
            lengths_N=torch.tensor(batch.lengths, device=device),
            logps_M=batch.logps_M,
            old_logps_M=batch.tokens(old.logps_NR),
            ref_logps_M=batch.tokens(old.reference_logps_NR),
        )
        advantages_N = batch.targets.advantages_NR[list(batch.places), 0].to(device)
        options = self.options.model_copy(update={"beta": batch.experience.kl_coefficient})
        output = grpo_loss(
            tokens,
            advantages_N,
            options,
            step=batch.step,
            max_completion_length=options.max_new_tokens,
        )
        by_token = options.importance_sampling_level == "token"
        number = batch.step.tokens if by_token else batch.step.completions
        return LossOutput(
            loss=output.loss,
            metrics={
                "policy_loss": output.loss.detach(),
                "clip_ratio_low": output.metrics["clip_ratio/low_mean"][0] / number,
                "clip_ratio_high": output.metrics["clip_ratio/high_mean"][0] / number,
            },
        )
