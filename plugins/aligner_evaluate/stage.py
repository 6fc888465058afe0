"""What the evaluate stage measures, on which data, and under which names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from aligner.data.options import DataSpecs, Limits, refuse_training_options
from aligner.models.options import LoadOptions
from aligner.preview import PreviewRequest, PreviewSection
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState, Slot

Metric = Literal["exact_match", "token_f1", "rouge_l", "distinct_1", "distinct_2", "repetition"]
METRICS: tuple[Metric, ...] = get_args(Metric)
COMPARING: frozenset[Metric] = frozenset({"exact_match", "token_f1", "rouge_l"})
"""Metrics that hold an answer against the row's reference answer."""


class JudgeSpec(StageOptions):
    """A reward function that scores answers. A bare string is its `name`."""

    name: str
    """A reward function that an installed plugin offers."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the reward function."""

    @model_validator(mode="before")
    @classmethod
    def _a_string_is_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler.resolve_ref_schema(handler(core))]}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Steps = Annotated[
    tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...])
]
Metrics = Annotated[
    tuple[Metric, ...],
    BeforeValidator(_as_list, json_schema_input_type=Metric | tuple[Metric, ...]),
]


class EvaluateOptions(LoadOptions):
    """Options of the evaluate stage. What is measured follows from which data is given."""

    prompts: DataSpecs | None = None
    """Prompts for the policy to answer; of a conversation, all before its last answer, which is then
    the reference answer. Gives `length_tokens` and `ended`, `reward` where the reward slot is filled,
    and whatever `judge`, `metrics`, `against` and `kl_to` ask for."""
    conversations: DataSpecs | None = None
    """Held-out conversations. Gives `eval_loss`, nats a token over the assistant's tokens, and
    `perplexity`."""
    text: DataSpecs | None = None
    """Held-out text. Gives `text_loss`, nats a token over all tokens, and `text_perplexity`."""
    pairs: DataSpecs | None = None
    """Held-out preference pairs. Gives `pair_accuracy` and `pair_margin` of the reward model in the
    reward slot."""

    judge: JudgeSpec | None = None
    """Score answers with this function. Gives `judge`, and `judge_STEP` for each step in `against`."""
    reward_model: bool = True
    """Score answers with the reward slot where it is filled. Gives `reward`, and `reward_STEP` for each
    step in `against`."""
    metrics: Metrics = ()
    """Compare answers with the rows' reference answers (`exact_match`, `token_f1`, `rouge_l`), or look
    at them alone (`distinct_1`, `distinct_2`, `repetition`)."""
    against: Steps = ()
    """Earlier steps whose models answer the same prompts; `model` is the start of the chain. Gives
    `win_rate_vs_STEP`, the share of prompts on which the policy's answer scores higher; ties count
    half."""
    compare_by: Literal["judge", "reward"] | None = None
    """Whose scores decide `win_rate_vs_STEP`; unset, the judge's where there is one, else the reward
    model's."""
    kl_to: Steps = ()
    """Earlier steps from whose models the policy's distance is estimated, in nats a token, on answers
    that the policy samples at temperature 1. Gives `kl_to_STEP` (k3) and `kl_to_STEP_k1`."""

    max_new_tokens: int = Field(256, gt=0)
    """Where an answer is cut off."""
    temperature: float = Field(0.0, ge=0)
    """What logits are divided by before sampling; 0 always takes the likeliest token."""
    top_k: int = Field(0, ge=0)
    """Sample among this many likeliest tokens; 0 for all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample among the likeliest tokens that together have this probability (Holtzman 2020)."""
    samples: int = Field(10, ge=0)
    """How many prompts are kept in `samples.jsonl`, with every answer and its scores."""

    max_length: int | None = Field(None, gt=1)
    """Longest row in tokens, of prompts without the answer. Longer texts are split, other longer rows
    left out and counted. None sets no limit."""
    limits: Limits = Limits()
    """How much of each finding in the data is too much."""
    per_device_eval_batch_size: int = Field(16, gt=0, json_schema_extra={"determines": False})
    """Rows computed at one time; changes memory and speed, not the metrics."""

    @model_validator(mode="after")
    def _measured_as_it_is(self) -> EvaluateOptions:
        for option in ("prompts", "conversations", "text", "pairs"):
            refuse_training_options(getattr(self, option), option)
        return self

    @model_validator(mode="after")
    def _something_to_measure(self) -> EvaluateOptions:
        if not any((self.prompts, self.conversations, self.text, self.pairs)):
            raise ValueError("give prompts, conversations, text or pairs to measure on")
        asked = [name for name in ("judge", "metrics", "against", "kl_to") if getattr(self, name)]
        if asked and self.prompts is None:
            raise ValueError(f"{' and '.join(asked)} look at answers: give prompts")
        if self.compare_by == "judge" and self.judge is None:
            raise ValueError("compare_by: judge needs a judge")
        if self.against and self.decides == "reward" and not self.reward_model:
            raise ValueError("against needs scores: give a judge, or leave reward_model true")
        return self

    @property
    def decides(self) -> Literal["judge", "reward"]:
        """Whose scores decide a win."""
        return self.compare_by or ("judge" if self.judge else "reward")


class Evaluate(Stage[EvaluateOptions]):
    """Measure the policy, and the reward model, without changing either."""

    name = "evaluate"
    provides = frozenset()

    @property
    def requires(self) -> frozenset[Slot]:
        needed: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        return needed | {"reward"} if self.options.pairs else needed

    @property
    def uses(self) -> frozenset[Slot]:
        scored = self.options.prompts is not None and self.options.reward_model
        return frozenset({"reward"}) if scored else frozenset()

    @property
    def earlier_steps(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.options.against, *self.options.kl_to)))

    def plan(self, context: PlanContext) -> Plan:
        from aligner_evaluate.plan import plan  # reading data and tokenizers is heavy

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_evaluate.preview import preview  # reading data and tokenizers is heavy

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_evaluate.measure import measure  # torch waits until a step really runs

        measure(self.options, state, context)
        return state


def metrics_of(options: EvaluateOptions, *, reward: bool) -> Iterator[str]:
    """Names of all metrics that a step with `config` records, in the order of its table row.

    Args:
        config: The step's.
        reward: Whether the reward slot is filled.
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
