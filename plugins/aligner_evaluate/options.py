"""Options of the evaluate stage, and the names of the metrics it records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from aligner.kit.declare import (
    DataSpecs,
    Limits,
    LoadOptions,
    RewardFunctionSpec,
    SamplingOptions,
    refuse_training_options,
)

TextMetric = Literal["exact_match", "token_f1", "rouge_l", "distinct_1", "distinct_2", "repetition"]
TEXT_METRICS: tuple[TextMetric, ...] = get_args(TextMetric)
REFERENCE_METRICS: frozenset[TextMetric] = frozenset({"exact_match", "token_f1", "rouge_l"})
"""Metrics that compare a completion with the row's reference answer."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Steps = Annotated[
    tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...])
]
TextMetrics = Annotated[
    tuple[TextMetric, ...],
    BeforeValidator(_as_list, json_schema_input_type=TextMetric | tuple[TextMetric, ...]),
]


class EvaluateOptions(SamplingOptions, LoadOptions):
    """Options of the evaluate stage. The metrics follow from the data that is given."""

    prompts: DataSpecs | None = None
    """Prompts that the policy completes. Of a conversation the prompt is all before its last answer, which
    is the reference answer. Gives `length_tokens` and `ended`, `reward` if the reward slot is filled, and
    the metrics of `judge`, `metrics`, `against` and `kl_to`."""
    conversations: DataSpecs | None = None
    """Held-out conversations. Gives `eval_loss`, in nats per token of the assistant, and `perplexity`."""
    text: DataSpecs | None = None
    """Held-out text. Gives `text_loss`, in nats per token, and `text_perplexity`."""
    pairs: DataSpecs | None = None
    """Held-out preference pairs. Gives `pair_accuracy` and `pair_margin` of the reward model in the
    reward slot."""

    judge: RewardFunctionSpec | None = None
    """Score completions with this reward function. Gives `judge`, and `judge_STEP` for each step in
    `against`."""
    reward_model: bool = True
    """Score completions with the reward slot if it is filled. Gives `reward`, and `reward_STEP` for each
    step in `against`."""
    metrics: TextMetrics = ()
    """Metrics of the completions' text: compared with the reference answers (`exact_match`, `token_f1`,
    `rouge_l`), or alone (`distinct_1`, `distinct_2`, `repetition`)."""
    against: Steps = ()
    """Earlier steps whose models complete the same prompts; `model` is the start of the chain. Gives
    `win_rate_vs_STEP`, the share of prompts on which the policy's completion scores higher; ties count
    half."""
    compare_by: Literal["judge", "reward"] | None = None
    """Scores that decide `win_rate_vs_STEP`; by default the judge's if there is one, else the reward
    model's."""
    kl_to: Steps = ()
    """Earlier steps for which the KL divergence from the policy to their model is estimated, in nats per
    token, on completions sampled from the policy at temperature 1. Gives `kl_to_STEP` (k3) and
    `kl_to_STEP_k1`."""

    temperature: float = Field(0.0, ge=0)
    """Softmax temperature of sampling; 0 always takes the most likely token."""
    samples: int = Field(10, ge=0)
    """Number of prompts that `samples.jsonl` lists, with all their completions and scores."""

    max_length: int | None = Field(None, gt=1)
    """Longest row in tokens (of prompts: without the completion). Longer texts are split; other longer rows
    are dropped and counted. null sets no limit."""
    limits: Limits = Limits()
    """Largest shares of each finding in the data; more is an error."""
    per_device_eval_batch_size: int = Field(16, gt=0, json_schema_extra={"determines": False})
    """Rows computed at once; changes memory and speed, not the metrics."""

    @model_validator(mode="after")
    def _check_data(self) -> EvaluateOptions:
        for option in ("prompts", "conversations", "text", "pairs"):
            refuse_training_options(getattr(self, option), option)
        return self

    @model_validator(mode="after")
    def _check_measures(self) -> EvaluateOptions:
        if not any((self.prompts, self.conversations, self.text, self.pairs)):
            raise ValueError(
                "there is nothing to evaluate on: give prompts, conversations, text or pairs"
            )
        given = [name for name in ("judge", "metrics", "against", "kl_to") if getattr(self, name)]
        if given and self.prompts is None:
            verb = "needs" if len(given) == 1 else "need"
            raise ValueError(f"{' and '.join(given)} {verb} completions: give prompts")
        if self.compare_by == "judge" and self.judge is None:
            raise ValueError("compare_by: judge needs a judge")
        if self.against and self.win_rate_scorer == "reward" and not self.reward_model:
            raise ValueError("against needs scores: give a judge, or leave reward_model true")
        return self

    @property
    def win_rate_scorer(self) -> Literal["judge", "reward"]:
        """Scorer that decides a win."""
        return self.compare_by or ("judge" if self.judge else "reward")


def metric_names(options: EvaluateOptions, *, reward: bool) -> Iterator[str]:
    """Yield the names of the metrics that a step records, in the order of its table row.

    Args:
        options: Options of the step.
        reward: True if the reward slot is filled and scores completions.
    """
    if options.conversations:
        yield from ("eval_loss", "perplexity")
    if options.text:
        yield from ("text_loss", "text_perplexity")
    if options.pairs:
        yield from ("pair_accuracy", "pair_margin")
    if not options.prompts:
        return
    scorers = [*(["judge"] if options.judge else []), *(["reward"] if reward else [])]
    yield from scorers
    for step in options.against:
        yield f"win_rate_vs_{step}"
        yield from (f"{scorer}_{step}" for scorer in scorers)
    for step in options.kl_to:
        yield from (f"kl_to_{step}", f"kl_to_{step}_k1")
    yield from options.metrics
    yield from ("length_tokens", "ended")
