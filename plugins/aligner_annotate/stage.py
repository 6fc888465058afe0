"""What the annotate stage answers, how it scores, and which rows it makes of that."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aligner import Look, ModelState, Plan, Run, Slot, Stage
from aligner.data.spec import DataSpecs
from aligner.preview import Asked, Section
from aligner.train.reward_spec import MODEL, RewardSpec, RewardSpecs
from aligner_annotate.options import WritingOptions

Keep = Literal["best_and_worst", "pairs", "best", "above", "all"]
PAIRING: frozenset[Keep] = frozenset({"best_and_worst", "pairs"})
"""What is kept as preference pairs."""


class AnnotateConfig(WritingOptions):
    """Options of the annotate stage."""

    prompts: DataSpecs = Field(json_schema_extra={"determines": False})
    """What the policy answers; of a conversation, all before its last answer."""
    samples_per_prompt: int = Field(4, gt=0)
    """Answers a prompt."""
    score: RewardSpecs = (RewardSpec(),)
    """What answers are scored by: `model` for the reward slot, a reward function's name, or several of
    them with weights, whose numbers are added up."""
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

    @model_validator(mode="after")
    def _options_that_fit_together(self) -> AnnotateConfig:
        if not self.score:
            raise ValueError("score is empty: nothing would tell a good answer from a bad one")
        names = [one.name for one in self.score]
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
    def by_model(self) -> bool:
        """Whether the reward slot is asked."""
        return any(one.name == MODEL for one in self.score)


class Annotate(Stage[AnnotateConfig]):
    """Let the policy answer prompts, score the answers, and make rows of them for later steps."""

    name = "annotate"
    provides = frozenset({"data"})

    @property
    def requires(self) -> frozenset[Slot]:
        needed: frozenset[Slot] = frozenset({"policy", "tokenizer"})
        return needed | {"reward"} if self.config.by_model else needed

    def plan(self, look: Look) -> Plan:
        from aligner_annotate.plan import plan  # reading data and tokenizers is heavy

        return plan(self.config, look)

    def preview(self, look: Look, asked: Asked) -> tuple[Section, ...]:
        from aligner_annotate.preview import (
            preview,  # the tokenizer waits until a recipe is looked at
        )

        return preview(self.config, look, asked)

    def run(self, state: ModelState, run: Run) -> ModelState:
        from aligner_annotate.annotate import annotate  # torch waits until a step really runs

        return state.put(run.step, data=annotate(self.config, state, run))


def figures_of(config: AnnotateConfig) -> tuple[str, ...]:
    """Names of all figures that a step with `config` records, in the order of its table row."""
    dropped = ["unended"] if config.ended_only else []
    dropped += ["empty", "identical"]
    if config.keep in PAIRING:
        dropped += ["ties", "margin"]
    if config.above is not None:
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
        *(f"reward_{one.name}" for one in config.score),
    )
