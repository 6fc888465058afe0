"""Every option of the ppo stage: what it is for, in which unit, and where the default is from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from aligner.data.options import DataOptions, DataSpecs
from aligner.models.options import ModelOptions, Precision
from aligner.stage import StageOptions
from aligner.train.reward_options import RewardSpec, RewardSpecs


class Guard(StageOptions):
    """When a metric goes out of bounds, and what happens then. A bare number is its `limit`."""

    limit: float | None = None
    """Where the bounds are; null switches the guard off."""
    then: Literal["stop", "skip"] = "stop"
    """`stop` ends the step with an error that shows samples; `skip` leaves the batch out of training."""
    patience: int = Field(1, gt=0)
    """Iterations in a row that must be out of bounds before anything happens."""

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_a_limit(cls, value: Any) -> Any:
        return {"limit": value} if value is None or isinstance(value, int | float) else value


class Guards(StageOptions):
    """What is held to bounds after each rollout, before anything is learnt from it."""

    kl: Guard = Guard(limit=100.0)
    """Mean KL to the reference a response, in nats (k1), above which the policy has run away."""
    entropy: Guard = Guard(limit=0.01, patience=3)
    """Mean entropy a token, in nats, below which the policy no longer explores."""
    unending: Guard = Guard(limit=0.95, patience=5)
    """Share of responses cut off at `max_new_tokens` above which the policy has unlearnt to stop."""
    length: Guard = Guard(limit=4.0, patience=3)
    """Mean response length, relative to that of the first iteration, above which reward is bought
    with length."""
    not_finite: Literal["stop", "skip"] = "stop"
    """What a reward, log-probability, loss or gradient that is no number does: `stop`, or `skip` the
    batch. There is no way to learn from one."""


class PretrainingMix(StageOptions):
    """PPO-ptx (Ouyang 2022, eq. 2): keep modelling text while reward is pursued."""

    data: DataSpecs
    """What is modelled."""
    rows: Literal["texts", "conversations"] = "texts"
    """How the data is read; of conversations only the assistant's part is learnt."""
    weight: float = Field(1.0, gt=0)
    """γ: weight of the mean next-token loss beside PPO's (Ouyang 2022 use 27.8)."""
    batch_size: int = Field(8, gt=0)
    """Rows mixed into each optimizer step, over all processes."""
    max_length: int = Field(512, gt=1)
    """Longest row in tokens; longer texts are split, longer conversations dropped and counted."""


class PPOOptions(ModelOptions, DataOptions):
    """Options of the ppo stage."""

    rewards: RewardSpecs = (RewardSpec(),)
    """Where reward comes from; the weighted numbers are added up, and each is logged by itself."""

    iterations: int | None = Field(None, gt=0)
    """Rounds of sampling and learning; by default as many as one pass over the prompts takes."""
    prompts: int = Field(64, gt=0)
    """Prompts an iteration, over all processes."""
    num_generations: int = Field(4, gt=0)
    """Responses a prompt; its prefix is computed once for all of them."""
    num_ppo_epochs: int = Field(2, gt=0)
    """Passes over each iteration's responses (Stiennon 2020 and TRL use 4, Ouyang 2022 one)."""
    num_mini_batches: int = Field(4, gt=0)
    """Optimizer steps a pass; the responses are dealt out at random, anew each pass."""
    per_device_train_batch_size: int = Field(8, gt=0, json_schema_extra={"determines": False})
    """Responses a device holds at once while learning; changes memory and speed, not the result."""

    learning_rate: float = Field(3e-6, gt=0)
    """Of the policy. For LoRA take about ten times as much."""
    value_learning_rate: float | None = Field(None, gt=0)
    """Of the value function; by default 1e-5, or 1e-4 for a head or an adapter."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """How learning rates fall, counted in optimizer steps; the last two end at 0."""
    warmup_steps: float = Field(0.0, ge=0)
    """Share of the optimizer steps (below 1), or their number (1 and above), with rising rates."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay rate of AdamW's mean of gradients."""
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    """Decay rate of AdamW's mean of squared gradients (0.95 after Ouyang 2022)."""
    adam_epsilon: float = Field(1e-8, gt=0)
    """Adam's ε. Larger (1e-5, Huang 2022) damps steps where gradients are tiny."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay, on matrices only."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients of policy and value, each by itself where they share nothing, are scaled to this norm."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more time, far less memory."""

    epsilon: float = Field(0.2, gt=0, lt=1)
    """How far below 1 the probability ratio may go and still count (Schulman 2017, ε)."""
    epsilon_high: float = Field(0.2, gt=0)
    """How far above 1; more than `epsilon` explores more (Yu 2025, "clip-higher", 0.28)."""
    cliprange_value: float | None = Field(0.2, gt=0)
    """How far a value may move in one iteration, in units of reward; null for no clip."""
    vf_coef: float = Field(0.5, gt=0)
    """Weight of the value loss, which matters where policy and value share weights."""
    entropy_coef: float = Field(0.0, ge=0)
    """Weight of the mean token entropy, in reward per nat (Mnih 2016)."""

    gamma: float = Field(1.0, ge=0, le=1)
    """Discount a token; 1, since a response is short and its score comes at its end."""
    lam: float = Field(0.95, ge=0, le=1)
    """λ of generalised advantage estimation (Schulman 2016); 1 trusts the value function in nothing."""
    whiten_advantages: bool = True
    """Scale advantages to mean 0 and variance 1 over the whole iteration, on all processes."""
    bootstrap_truncated: bool = False
    """Let the value function continue a response that was cut off, as if it went on (Pardo 2018)."""
    missing_eos_penalty: float = Field(0.0, ge=0)
    """Taken from the score of a response that did not end by itself, in units of reward."""

    reward_scale: float | Literal["running"] = 1.0
    """Scores are multiplied by this, or divided by the running deviation of all seen (Zheng 2023)."""
    reward_clip: float | None = Field(None, gt=0)
    """Scores are then cut to ± this."""

    kl_coef: float = Field(0.05, ge=0)
    """β: what a nat of KL to the reference costs, in units of reward (Ziegler 2019; TRL 0.05)."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """How KL is estimated from a sampled token (Schulman 2020); as a reward only k1 gives the true
    gradient, the others bound it from below."""
    kl_target: float | None = Field(None, gt=0)
    """KL a response, in nats, that β is steered to (Ziegler 2019: 6 to 10); unset, β stays as it is."""
    kl_gain: float = Field(0.1, gt=0, lt=1)
    """K_β of the steering: the largest change of β in an iteration is a fifth of it."""

    max_new_tokens: int = Field(128, gt=0)
    """Longest response; one that has not ended by then is cut off and counted."""
    min_new_tokens: int = Field(0, ge=0)
    """No stop token is drawn before this many tokens stand."""
    temperature: float = Field(1.0, gt=0)
    """Softmax temperature of sampling; log-probabilities are taken at it too, so ratios are true."""
    top_k: int = Field(0, ge=0)
    """Sample among this many likeliest tokens; 0 for all. Ratios stay those of the uncut policy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample among the likeliest tokens of this total probability. Ratios stay those of the uncut policy."""
    sampler: Literal["built_in", "continuous_batching"] = "built_in"
    """What writes the responses: a sampler of our own, or transformers' continuous batching, where
    rows join as others leave. With the second a response depends on what is sampled beside it."""
    rollout_batch_size: int = Field(64, gt=0, json_schema_extra={"determines": False})
    """Responses sampled at one time on a device; changes memory and speed, and only with `sampler:
    continuous_batching` which responses are drawn."""

    value: Literal["auto", "head", "adapter", "model"] = "auto"
    """What estimates values: a `head` on the policy's trunk, its own LoRA `adapter` on the policy's
    frozen weights, or its own `model`. `auto` is adapter where the policy is LoRA, else model."""
    value_from: Literal["auto", "policy", "reward"] = "auto"
    """What a value function starts from: `policy` with a head of zeros, or the `reward` model, head
    included (Ouyang 2022; needs value: model). `auto` is the value slot if filled, else the policy."""
    pretraining: PretrainingMix | None = None
    """Mix next-token prediction into every optimizer step."""

    guards: Guards = Guards()
    """What stops the step, or leaves a batch out."""
    samples_shown: int = Field(4, ge=0, json_schema_extra={"determines": False})
    """Texts kept in samples.jsonl each time."""
    samples_every: int = Field(10, gt=0, json_schema_extra={"determines": False})
    """Iterations between samples; those of the first and the last are always kept."""
    save_steps: int | None = Field(None, gt=0, json_schema_extra={"determines": False})
    """Iterations between checkpoints; by default a tenth of them, at least 5."""

    def rounds(self, prompts: int) -> int:
        """Iterations in all: as the recipe says, or as many as one pass over `prompts` takes."""
        return self.iterations or -(-prompts // self.prompts)

    @field_validator("precision")
    @classmethod
    def _no_half_precision(cls, value: Precision) -> Precision:
        if value in ("fp16", "pure_bf16"):
            raise ValueError("ppo takes auto, fp32 or bf16: ratios near 1 need 32-bit weights")
        return value

    @model_validator(mode="after")
    def _options_that_fit_together(self) -> PPOOptions:
        if not self.rewards:
            raise ValueError("rewards is empty: nothing would be learnt")
        names = [reward.name for reward in self.rewards]
        if len(set(names)) < len(names):
            raise ValueError("rewards names a source twice; give it once, with the summed weight")
        if self.bootstrap_truncated and self.missing_eos_penalty:
            raise ValueError(
                "bootstrap_truncated says a cut-off response goes on, and missing_eos_penalty that "
                "it failed; choose one"
            )
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError("min_new_tokens must be below max_new_tokens")
        if self.num_mini_batches > self.prompts * self.num_generations:
            raise ValueError("num_mini_batches is above the number of responses in an iteration")
        if self.value_from == "reward" and self.value not in ("auto", "model"):
            raise ValueError("value_from: reward needs value: model")
        if self.kl_target is not None and not self.kl_coef:
            raise ValueError("kl_target steers kl_coef, which is 0")
        if self.prompts * self.num_generations < 2:
            raise ValueError("an iteration needs at least two responses to compare")
        return self
