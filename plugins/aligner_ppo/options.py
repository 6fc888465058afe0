"""Options of the ppo stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aligner.kit.declare import RLOptions


class PPOOptions(RLOptions):
    """Options of the ppo stage."""

    num_ppo_epochs: int = Field(2, gt=0)
    """Passes over each iteration's responses (Stiennon 2020 and TRL use 4, Ouyang 2022 one)."""
    epsilon: float = Field(0.2, gt=0, lt=1)
    """Ratios below 1 - epsilon are clipped where the advantage is negative (Schulman 2017, ε)."""
    epsilon_high: float | None = Field(None, gt=0)
    """Ratios above 1 + epsilon_high are clipped where the advantage is positive; by default `epsilon`.
    A larger value explores more (clip-higher, Yu 2025: 0.28)."""
    cliprange_value: float | None = Field(0.2, gt=0)
    """Largest change of a value in one iteration, in units of reward; null does not clip values."""
    vf_coef: float = Field(0.5, gt=0)
    """Weight of the value loss, which matters where policy and value function share weights."""
    value_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of the value function; by default 1e-5, or 1e-4 for a head or an adapter."""

    gamma: float = Field(1.0, ge=0, le=1)
    """Discount per token; 1, since a response is short and its score comes at its end."""
    lam: float = Field(0.95, ge=0, le=1)
    """λ of generalized advantage estimation (Schulman 2016); 1 uses no estimated value of later states."""
    whiten_advantages: bool = True
    """Scale advantages to mean 0 and variance 1 over the whole iteration, on all processes."""
    bootstrap_truncated: bool = False
    """Add the estimated value of the last state to a response that was truncated, as if it continued
    (Pardo 2018)."""

    kl_coef: float = Field(0.05, ge=0)
    """β: reward subtracted per nat of KL divergence to the reference (Ziegler 2019; TRL 0.05)."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """Estimator of the KL divergence from a sampled token (Schulman 2020); as a reward only k1 has the
    gradient of the true divergence."""

    value: Literal["auto", "head", "adapter", "model"] = "auto"
    """Kind of value function: a `head` on the policy's trunk, a separate LoRA `adapter` on the policy's
    frozen weights, or a separate `model`. `auto` is adapter where the policy is LoRA, else model."""
    value_from: Literal["auto", "policy", "reward"] = "auto"
    """Initial weights of the value function: the `policy` with a head of zeros, or the `reward` model
    with its head (Ouyang 2022; needs value: model). `auto` is the value slot if filled, else the policy."""

    @property
    def passes(self) -> int:
        return self.num_ppo_epochs

    @model_validator(mode="after")
    def _check_ppo(self) -> PPOOptions:
        if self.bootstrap_truncated and self.missing_eos_penalty:
            raise ValueError(
                "bootstrap_truncated treats a truncated response as unfinished, and "
                "missing_eos_penalty as a failure; choose one"
            )
        if self.value_from == "reward" and self.value not in ("auto", "model"):
            raise ValueError("value_from: reward needs value: model")
        return self
