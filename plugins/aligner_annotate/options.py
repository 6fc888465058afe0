"""Options of the annotate and paraphrase stages, and the names of the metrics they record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from aligner import StageOptions
from aligner.kit.declare import (
    DataSpecs,
    Limits,
    LoadOptions,
    RewardSpec,
    RewardSpecs,
    SamplingOptions,
)

Keep = Literal["best_and_worst", "pairs", "best", "above", "all"]
PAIRING: frozenset[Keep] = frozenset({"best_and_worst", "pairs"})
"""Values of `keep` that make preference pairs."""
JUDGE = "judge"
"""Name of the judge among the sources of scores."""
PROMPT, ANSWER = "{prompt}", "{answer}"
"""Placeholders in the judge's question."""
TEXT = "{text}"
"""Placeholder in the instruction to paraphrase."""


class GenerationOptions(SamplingOptions, LoadOptions):
    """Options of a step in which the policy generates data."""

    max_length: int | None = Field(None, gt=1)
    """Longest prompt in tokens; longer ones are dropped and counted. null sets no limit."""
    limits: Limits = Limits()
    """Largest shares of each finding in the data; more is an error."""
    batch_size: int = Field(64, gt=0, json_schema_extra={"determines": False})
    """Completions generated or scored at once; changes memory and speed, not the result."""
    samples: int = Field(10, ge=0, json_schema_extra={"determines": False})
    """Number of prompts that `samples.jsonl` lists, with all that was generated for each."""


class JudgeOptions(StageOptions):
    """A model of the chain that is asked whether a completion is good."""

    of: str | None = None
    """Earlier step whose model judges; `model` is the start of the chain, null the policy itself."""
    question: str = (
        f"Question:\n{PROMPT}\n\nAnswer:\n{ANSWER}\n\n"
        "Is this answer correct, helpful and harmless? Reply with Yes or No."
    )
    """Question to the judge, with the placeholders `{prompt}` and then `{answer}`, each once."""
    yes: str = Field("Yes", min_length=1)
    """Reply that means a good completion."""
    no: str = Field("No", min_length=1)
    """Reply that means a bad completion."""
    weight: float = 1.0
    """Factor of the judge's score, the log-odds of yes to no, in the sum over sources."""

    @field_validator("question")
    @classmethod
    def _check_placeholders(cls, value: str) -> str:
        first, second = value.find(PROMPT), value.find(ANSWER)
        if not 0 <= first < second or value.count(PROMPT) + value.count(ANSWER) != 2:
            raise ValueError(f"write {PROMPT} and after it {ANSWER}, each once")
        return value


class AnnotateOptions(GenerationOptions):
    """Options of the annotate stage."""

    prompts: DataSpecs = Field(json_schema_extra={"determines": False})
    """Prompts that the policy completes; of a conversation, all before its last answer."""
    samples_per_prompt: int = Field(4, gt=0)
    """Completions per prompt."""
    score: RewardSpecs = (RewardSpec(),)
    """Sources of scores: `model` for the reward slot, a reward function, or several with weights, whose
    weighted scores are added up. With a `judge` and no `score`, the judge alone."""
    judge: JudgeOptions | None = None
    """Score completions by a model of the chain (Bai 2022, Constitutional AI)."""
    keep: Keep = "best_and_worst"
    """Rows made of a prompt's completions: a pair of the `best_and_worst`, all `pairs` with different
    scores, a conversation with the `best`, one with each that scores `above` a threshold, or one row with
    `all` completions and their scores."""
    pairs_per_prompt: int | None = Field(None, gt=0)
    """Largest number of pairs per prompt with `keep: pairs`, those of largest margin; null keeps all."""
    margin: float = Field(0.0, ge=0)
    """Smallest difference between the scores of a pair. Equal scores never make a pair."""
    above: float | None = None
    """Threshold that the score of a kept completion, or of the chosen one of a pair, must exceed."""
    ended_only: bool = True
    """Drop completions that were truncated at `max_new_tokens`; else they are used as if they had
    ended."""

    @model_validator(mode="before")
    @classmethod
    def _judge_alone(cls, value: Any) -> Any:
        alone = isinstance(value, Mapping) and value.get("judge") and "score" not in value
        return {**value, "score": []} if alone else value

    @model_validator(mode="after")
    def _check_scores(self) -> AnnotateOptions:
        if not self.weights:
            raise ValueError("score is empty: completions cannot be compared without scores")
        names = [source.name for source in self.score] + ([JUDGE] if self.judge else [])
        if len(set(names)) < len(names):
            raise ValueError("score names a source twice; give it once, with the summed weight")
        if self.samples_per_prompt == 1 and self.keep in PAIRING:
            raise ValueError(
                f"keep: {self.keep} compares completions: samples_per_prompt must be 2 or more"
            )
        if self.samples_per_prompt > 1 and not self.temperature:
            raise ValueError("at temperature 0 all completions of a prompt are the same")
        self._check_effects()
        return self

    def _check_effects(self) -> None:
        """Refuse options that would have no effect."""
        if self.keep == "above" and self.above is None:
            raise ValueError("keep: above needs a threshold: `above: 0.5`")
        if self.keep == "all" and self.above is not None:
            raise ValueError("keep: all keeps every completion, but above would drop some")
        if self.keep not in PAIRING and self.margin:
            raise ValueError(f"margin is for pairs, but keep: {self.keep} makes none")
        if self.keep != "pairs" and self.pairs_per_prompt is not None:
            raise ValueError("pairs_per_prompt is for keep: pairs")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every source of scores."""
        judge = {JUDGE: self.judge.weight} if self.judge else {}
        return {source.name: source.weight for source in self.score} | judge

    @property
    def by_model(self) -> bool:
        """True if the reward slot scores."""
        return any(source.is_model for source in self.score)


class ParaphraseOptions(GenerationOptions):
    """Options of the paraphrase stage."""

    data: DataSpecs = Field(json_schema_extra={"determines": False})
    """Rows whose last user turn is paraphrased; the rest of the row is unchanged."""
    rows: Literal["conversation", "preference", "prompt"] = "conversation"
    """Kind of the rows that are read and made."""
    versions: int = Field(1, gt=0)
    """Paraphrases generated per row."""
    instruction: str = (
        "Say the following in other words, with the same meaning. "
        f"Reply with the new wording only.\n\n{TEXT}"
    )
    """Instruction to the policy, with the placeholder `{text}` for the turn."""
    keep_originals: bool = True
    """Make the original rows too, each before its paraphrases."""
    shortest: float = Field(0.5, ge=0)
    """Smallest number of words of a paraphrase, relative to the original."""
    longest: float = Field(2.0, gt=0)
    """Largest number of words of a paraphrase, relative to the original."""
    temperature: float = Field(0.7, ge=0)
    """Softmax temperature of sampling; 0 always takes the most likely token."""

    @field_validator("instruction")
    @classmethod
    def _check_placeholder(cls, value: str) -> str:
        if value.count(TEXT) != 1:
            raise ValueError(f"write {TEXT} once, as the placeholder of the turn to paraphrase")
        return value

    @model_validator(mode="after")
    def _check_versions(self) -> ParaphraseOptions:
        if self.shortest > self.longest:
            raise ValueError("shortest is above longest")
        if self.versions > 1 and not self.temperature:
            raise ValueError("at temperature 0 all versions of a row are the same")
        return self


def annotate_metrics(options: AnnotateOptions) -> tuple[str, ...]:
    """Return the names of the metrics that an annotate step records, in the order of its table row."""
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
        *(f"dropped_{reason}" for reason in dropped),
        *(f"reward_{name}" for name in options.weights),
    )


PARAPHRASE_METRICS = (
    "rows",
    "paraphrases",
    "without_paraphrase",
    "ended",
    "length_tokens",
    "dropped_unended",
    "dropped_empty",
    "dropped_unchanged",
    "dropped_identical",
    "dropped_length",
)
"""Names of the metrics that a paraphrase step records."""
