"""Options that every stage on the RL engine has: rewards, rollouts, optimizer, loop and guards."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from aligner.data.options import DataOptions, DataSpecs
from aligner.models.options import ModelOptions, Precision, SamplingOptions
from aligner.stage import StageOptions
from aligner.train.reward_options import RewardSpec, RewardSpecs


class Guard(StageOptions):
    """Limit of one metric, and the action when it is exceeded. A bare number is the `limit`."""

    limit: float | None = None
    """Limit of the metric; null turns the guard off."""
    then: Literal["stop", "skip"] = "stop"
    """`stop` ends the step with an error that shows samples; `skip` leaves the batch out of training."""
    patience: int = Field(1, gt=0)
    """Number of consecutive iterations beyond the limit before the guard acts."""

    @model_validator(mode="before")
    @classmethod
    def _number_to_limit(cls, value: Any) -> Any:
        return {"limit": value} if value is None or isinstance(value, int | float) else value


class Guards(StageOptions):
    """Limits that are checked after each rollout, before the policy is updated."""

    kl: Guard = Guard(limit=100.0)
    """Upper limit of the mean KL divergence to the reference per response, in nats (k1)."""
    entropy: Guard = Guard(limit=0.01, patience=3)
    """Lower limit of the mean entropy per token, in nats; below it the policy no longer explores."""
    unending: Guard = Guard(limit=0.95, patience=5)
    """Upper limit of the share of responses truncated at `max_new_tokens`."""
    length: Guard = Guard(limit=4.0, patience=3)
    """Upper limit of the mean response length, relative to that of the first iteration."""
    not_finite: Literal["stop", "skip"] = "stop"
    """Action when a reward, log-probability, loss or gradient is NaN or infinite: `stop`, or `skip`
    the batch."""


class PretrainingMix(StageOptions):
    """Next-token prediction mixed into every optimizer step (PPO-ptx, Ouyang 2022, eq. 2)."""

    data: DataSpecs
    """Texts or conversations to predict."""
    rows: Literal["texts", "conversations"] = "texts"
    """Kind of the rows; of conversations only the assistant's tokens are trained."""
    weight: float = Field(1.0, gt=0)
    """Weight γ of the mean next-token loss (Ouyang 2022 use 27.8)."""
    batch_size: int = Field(8, gt=0)
    """Rows mixed into each optimizer step, over all processes."""
    max_length: int = Field(512, gt=1)
    """Longest row in tokens; longer texts are split, longer conversations dropped and counted."""


class ScoreOptions(StageOptions):
    """Sources of reward, and what is done to their scores before advantages are computed."""

    rewards: RewardSpecs = (RewardSpec(),)
    """Sources of reward: `model` for the reward model, or reward functions. Their weighted scores are
    added up, and each is logged separately."""
    reward_scale: float | Literal["running"] = 1.0
    """Factor for the scores; `running` divides them by the standard deviation of all scores so far
    (Zheng 2023)."""
    reward_clip: float | None = Field(None, gt=0)
    """Limit of the absolute value of the scaled scores; null does not clip them."""
    missing_eos_penalty: float = Field(0.0, ge=0)
    """Number subtracted from the score of a response that was truncated, in units of reward."""


class RolloutOptions(SamplingOptions):
    """Sampling of responses."""

    max_new_tokens: int = Field(128, gt=0)
    """Longest response in tokens; a response that has not ended by then is truncated and counted."""
    temperature: float = Field(1.0, gt=0)
    """Softmax temperature of sampling; log-probabilities are computed at it too, so that ratios are
    exact."""
    top_k: int = Field(0, ge=0)
    """Sample among this many most likely tokens; 0 for all. Ratios are those of the full
    distribution."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample among the most likely tokens of this total probability. Ratios are those of the full
    distribution."""
    sampler: Literal["built_in", "continuous_batching"] = "built_in"
    """Engine that generates responses: the built-in sampler, or transformers' continuous batching,
    which replaces finished rows at once. With the second a response depends on the others in its
    batch."""
    rollout_batch_size: int = Field(64, gt=0, json_schema_extra={"determines": False})
    """Responses generated at once on a device; changes memory and speed, and the responses themselves
    only with `sampler: continuous_batching`."""


class OptimizerOptions(StageOptions):
    """Optimizer, schedule and memory."""

    per_device_train_batch_size: int = Field(8, gt=0, json_schema_extra={"determines": False})
    """Responses in one forward and backward pass on a device; changes memory and speed, not the
    result."""
    learning_rate: float = Field(3e-6, gt=0)
    """Peak learning rate of the policy; LoRA adapters usually need about ten times as much."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """Shape of the learning rate over the optimizer steps; `linear` and `cosine` end at 0."""
    warmup_steps: float = Field(0.0, ge=0)
    """Optimizer steps over which the learning rate rises; below 1, their share of all steps."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay rate of AdamW's mean of gradients."""
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    """Decay rate of AdamW's mean of squared gradients (0.95 after Ouyang 2022)."""
    adam_epsilon: float = Field(1e-8, gt=0)
    """ε of AdamW. Larger values (1e-5, Huang 2022) shorten steps where gradients are tiny."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay, applied to matrices only."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm to which gradients are clipped; policy and value function separately where they share no
    weights."""
    entropy_coef: float = Field(0.0, ge=0)
    """Weight of the mean entropy per token that is subtracted from the loss (Mnih 2016)."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more time, far less memory."""


class LoopOptions(StageOptions):
    """Size and number of iterations, checkpoints, samples and guards."""

    iterations: int | None = Field(None, gt=0)
    """Number of rollouts, each followed by optimizer steps; by default one pass over the prompts."""
    prompts: int = Field(64, gt=0)
    """Prompts per iteration, over all processes."""
    num_generations: int = Field(4, gt=0)
    """Responses per prompt; the prompt is computed once for all of them."""
    num_mini_batches: int = Field(4, gt=0)
    """Optimizer steps per pass over an iteration's responses, each on a random part of them."""
    pretraining: PretrainingMix | None = None
    """Next-token prediction mixed into every optimizer step."""
    guards: Guards = Guards()
    """Limits that stop the step or leave a batch out of training."""
    samples_shown: int = Field(4, ge=0, json_schema_extra={"determines": False})
    """Number of responses written to samples.jsonl at a time."""
    samples_every: int = Field(10, gt=0, json_schema_extra={"determines": False})
    """Iterations between samples; those of the first and the last iteration are always written."""
    save_steps: int | None = Field(None, gt=0, json_schema_extra={"determines": False})
    """Iterations between checkpoints; by default a tenth of all, at least 5."""


class RLOptions(
    ModelOptions, DataOptions, LoopOptions, OptimizerOptions, RolloutOptions, ScoreOptions
):
    """Options of every stage on the RL engine; a stage adds those of its algorithm."""

    kl_option: ClassVar[str] = "kl_coef"
    """Name of the option that is the coefficient of the KL divergence."""

    kl_target: float | None = Field(None, gt=0)
    """KL divergence per response, in nats, to which the KL coefficient is adapted (Ziegler 2019: 6 to
    10); null keeps the coefficient constant."""
    kl_gain: float = Field(0.1, gt=0, lt=1)
    """Gain K_β of that adaptation: an iteration changes the coefficient by at most a fifth of it."""

    @property
    def passes(self) -> int:
        """Passes over the responses of an iteration, each of `num_mini_batches` optimizer steps."""
        return 1

    @property
    def kl_coefficient(self) -> float:
        """Coefficient of the KL divergence in the first iteration."""
        return float(getattr(self, self.kl_option))

    def describe_kl(self, estimator: str) -> str:
        """Return the KL coefficient in words, for the plan's summary."""
        text = f"KL {self.kl_coefficient:g} ({estimator})"
        if self.kl_target is not None:
            text += f" adapted to {self.kl_target:g} nats"
        return text

    def total_iterations(self, prompts: int) -> int:
        """Return the number of iterations: as given, or of one pass over `prompts` prompts."""
        return self.iterations or -(-prompts // self.prompts)

    def steps_per_iteration(self) -> int:
        """Return the number of optimizer steps in one iteration."""
        return self.passes * self.num_mini_batches

    @field_validator("precision")
    @classmethod
    def _refuse_half_precision(cls, value: Precision) -> Precision:
        if value in ("fp16", "pure_bf16"):
            raise ValueError(
                "precision must be auto, fp32 or bf16 here: ratios near 1 need 32-bit weights"
            )
        return value

    @model_validator(mode="after")
    def _check_rewards(self) -> RLOptions:
        if not self.rewards:
            raise ValueError("rewards is empty: there would be nothing to train on")
        names = [reward.name for reward in self.rewards]
        if len(set(names)) < len(names):
            raise ValueError("rewards names a source twice; give it once, with the summed weight")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> RLOptions:
        if self.num_mini_batches > self.prompts * self.num_generations:
            raise ValueError("num_mini_batches is above the number of responses in an iteration")
        if self.prompts * self.num_generations < 2:
            raise ValueError("an iteration needs at least two responses to compare")
        if self.kl_target is not None and not self.kl_coefficient:
            raise ValueError(f"kl_target adapts {self.kl_option}, which is 0")
        return self
