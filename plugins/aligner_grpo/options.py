"""Options of the grpo stage, named as in TRL's `GRPOConfig`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from aligner import StageOptions
from aligner.kit.declare import RLOptions

GRPOLossType = Literal["grpo", "bnpo", "dr_grpo", "dapo"]
ScaleRewards = Literal["group", "batch", "none"]


class GRPOLossOptions(StageOptions):
    """Options that decide how rewards become advantages and advantages a loss."""

    num_generations: int = Field(8, ge=2)
    """Completions sampled for each prompt; they are the group whose rewards are compared."""
    scale_rewards: ScaleRewards = "group"
    """Standard deviation by which rewards are divided: that of the `group` (Shao 2024), of the whole
    `batch` (Liu 2025, arXiv:2508.08221), or `none` (Dr. GRPO, Liu 2025, arXiv:2503.20783)."""
    loss_type: GRPOLossType = "dapo"
    """Average of the tokens' losses: `grpo` over each completion and then over completions, `bnpo`
    over the tokens of a micro-batch, `dapo` over all tokens of an optimizer step (Yu 2025), `dr_grpo`
    over the longest possible completion (Liu 2025, arXiv:2503.20783)."""
    beta: float = Field(0.0, ge=0)
    """Coefficient of the KL divergence to the reference in the loss, estimated by k3."""
    epsilon: float = Field(0.2, gt=0, lt=1)
    """Probability ratios below 1 - epsilon are clipped where the advantage is negative."""
    epsilon_high: float | None = Field(None, gt=0)
    """Ratios above 1 + epsilon_high are clipped where the advantage is positive; by default as
    `epsilon`, and 0.28 in DAPO (clip-higher, Yu 2025)."""
    delta: float | None = Field(None, gt=0)
    """Upper limit of all ratios, also where the advantage is negative; above 1 + epsilon_high
    (two-sided clipping, INTELLECT-2, 2025). By default there is no limit."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """One probability ratio for each token, or one for each completion (GSPO, Zheng 2025)."""
    use_bias_correction_kl: bool = True
    """Multiply the KL by the probability ratio, so that its gradient is unbiased (DeepSeek-V3.2)."""

    @model_validator(mode="after")
    def _check_delta(self) -> GRPOLossOptions:
        upper = 1 + (self.epsilon_high or self.epsilon)
        if self.delta is not None and self.delta <= upper:
            raise ValueError(f"delta must be above 1 + epsilon_high, which is {upper:g}")
        return self


class GRPOOptions(GRPOLossOptions, RLOptions):
    """Options of the grpo stage."""

    kl_option: ClassVar[str] = "beta"

    num_iterations: int = Field(1, gt=0)
    """Passes over the responses of a rollout (μ in Shao 2024)."""
    num_mini_batches: int = Field(1, gt=0)
    """Optimizer steps per pass over a rollout's responses, each on a random part of them."""
    per_device_train_batch_size: int = Field(8, gt=0)
    """Responses in one forward and backward pass on a device; changes memory and speed, and the result
    only with `loss_type: bnpo`."""
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; LoRA adapters usually need about ten times as much."""

    @property
    def passes(self) -> int:
        return self.num_iterations
