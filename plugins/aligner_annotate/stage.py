"""What the annotate stage answers, how it scores, and which rows it makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from aligner import ModelState, Plan, PlanContext, Slot, Stage, StageOptions, StepContext
from aligner.data.options import DataSpecs
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.reward_options import MODEL, RewardSpec, RewardSpecs
from aligner_annotate.options import WritingOptions

Keep = Literal["best_and_worst", "pairs", "best", "above", "all"]
PAIRING: frozenset[Keep] = frozenset({"best_and_worst", "pairs"})
"""What is kept as preference pairs."""


JUDGE = "judge"
"""What the judge is called among the sources of scores."""
PROMPT, ANSWER = "{prompt}", "{answer}"
"""Where the judge's question has what was asked, and what was answered."""


class JudgeSpec(StageOptions):
    """A model of the chain that is asked whether an answer is good."""

    of: str | None = None
    """Earlier step whose model judges; `model` is the start of the chain, None the policy itself."""
    question: str = (
        f"Question:\n{PROMPT}\n\nAnswer:\n{ANSWER}\n\n"
        "Is this answer correct, helpful and harmless? Reply with Yes or No."
    )
    """What it is asked: `{prompt}` and then `{answer}`, once each, stand for what is judged."""
    yes: str = Field("Yes", min_length=1)
    """How it says that it is."""
    no: str = Field("No", min_length=1)
    """How it says that it is not."""
    weight: float = 1.0
    """What the log of the odds of yes to no is multiplied by before scores are added up."""

    @field_validator("question")
    @classmethod
    def _names_both(cls, value: str) -> str:
        first, second = value.find(PROMPT), value.find(ANSWER)
        if not 0 <= first < second or value.count(PROMPT) + value.count(ANSWER) != 2:
            raise ValueError(f"write {PROMPT} and after it {ANSWER}, each once")
        return value


class AnnotateOptions(WritingOptions):
    """Options of the annotate stage."""

    prompts: DataSpecs = Field(json_schema_extra={"determines": False})
    """What the policy answers; of a conversation, all before its last answer."""
    samples_per_prompt: int = Field(4, gt=0)
    """Answers a prompt."""
    score: RewardSpecs = (RewardSpec(),)
    """What answers are scored by: `model` for the reward slot, a reward function's name, or several of
    them with weights, whose numbers are added up. With a `judge` and no `score`, by the judge alone."""
    judge: JudgeSpec | None = None
    """Score answers by what a model of the chain thinks of them (Bai 2022, Constitutional AI)."""
    keep: Keep = "best_and_worst"
    """Rows made of a prompt's answers: a pair of the `best_and_worst`, all `pairs` that differ, a
    conversation with the `best`, one with each that scores `above` a bound, or one row with `all`
    answers and their scores."""
    pairs_per_prompt: int | None = Field(None, gt=0)
    """Most pairs of one prompt under `keep: pairs`, those that differ most; None keeps all."""
    margin: float = Field(0.0, ge=0)
    """Smallest difference between the scores of a pair. Equal scores never make one."""
    above: float | None = None
    """Only answers that score more than this are kept, or chosen in a pair."""
    ended_only: bool = True
    """Leave out answers that were cut off at `max_new_tokens`; else they are taken as if they had
    ended there."""

    @model_validator(mode="before")
    @classmethod
    def _a_judge_is_enough(cls, value: Any) -> Any:
        alone = isinstance(value, Mapping) and value.get("judge") and "score" not in value
        return {**value, "score": []} if alone else value

    @model_validator(mode="after")
    def _options_that_fit_together(self) -> AnnotateOptions:
        if not self.weights:
            raise ValueError("score is empty: nothing would tell a good answer from a bad one")
        names = [one.name for one in self.score] + ([JUDGE] if self.judge else [])
        if len(set(names)) < len(names):
            raise ValueError("score names a source twice; give it once, with the summed weight")
        if self.samples_per_prompt == 1 and self.keep in PAIRING:
            raise ValueError(
                f"keep: {self.keep} compares answers: samples_per_prompt must be 2 or more"
            )
        if self.samples_per_prompt > 1 and not self.temperature:
            raise ValueError("at temperature 0 all answers to a prompt are the same")
        self._options_that_say_something()
        return self

    def _options_that_say_something(self) -> None:
        if self.keep == "above" and self.above is None:
            raise ValueError("keep: above needs a bound: `above: 0.5`")
        if self.keep == "all" and self.above is not None:
            raise ValueError("keep: all keeps every answer; above would leave some out")
        if self.keep not in PAIRING and self.margin:
            raise ValueError(f"margin is for pairs, and keep: {self.keep} makes none")
        if self.keep != "pairs" and self.pairs_per_prompt is not None:
            raise ValueError("pairs_per_prompt is for keep: pairs")

    @property
    def weights(self) -> dict[str, float]:
        """Of every source of scores, by its name."""
        judged = {JUDGE: self.judge.weight} if self.judge else {}
        return {one.name: one.weight for one in self.score} | judged

    @property
    def by_model(self) -> bool:
        """Whether the reward slot is asked."""
        return any(one.name == MODEL for one in self.score)


class Annotate(Stage[AnnotateOptions]):
    """Let the policy answer prompts, score the answers, and make rows of them for later steps."""

    name = "annotate"
    provides = frozenset({"data"})

    @property
    def requires(self) -> frozenset[Slot]:
        needed: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        return needed | {"reward"} if self.options.by_model else needed

    @property
    def earlier_steps(self) -> tuple[str, ...]:
        judge = self.options.judge
        return (judge.of,) if judge is not None and judge.of is not None else ()

    def plan(self, context: PlanContext) -> Plan:
        from aligner_annotate.plan import plan  # reading data and tokenizers is heavy

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_annotate.preview import (
            preview,  # the tokenizer waits until a recipe is looked at
        )

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_annotate.annotate import annotate  # torch waits until a step really runs

        return state.put(context.step, data=annotate(self.options, state, context))


def metrics_of(options: AnnotateOptions) -> tuple[str, ...]:
    """Names of all metrics that a step with `config` records, in the order of its table row."""
    dropped = ["unended"] if options.ended_only else []
    dropped += ["empty", "identical"]
    if options.keep in PAIRING:
        dropped += ["ties", "margin"]
    if options.above is not None:
        dropped += ["below"]
    return (
        "rows",
        "reward_mean",
        "reward_best",
        "reward_deviation",
        "ended",
        "length_tokens",
        "without_rows",
        *(f"dropped_{why}" for why in dropped),
        *(f"reward_{name}" for name in options.weights),
    )
