"""What the paraphrase stage rewords, by which words it asks for that, and what it takes for an answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from aligner import ModelState, Plan, PlanContext, Stage, StepContext
from aligner.data.options import DataSpecs
from aligner.preview import PreviewRequest, PreviewSection
from aligner_annotate.options import WritingOptions

PLACE = "{text}"
"""Where the instruction has the turn that is to be reworded."""
INSTRUCTION = (
    "Say the following in other words, with the same meaning. "
    f"Reply with the new wording only.\n\n{PLACE}"
)


class ParaphraseOptions(WritingOptions):
    """Options of the paraphrase stage."""

    data: DataSpecs = Field(json_schema_extra={"determines": False})
    """Rows whose last user turn is reworded; all else of them stays as it is."""
    rows: Literal["conversation", "preference", "prompt"] = "conversation"
    """The kind of rows that are read and made."""
    versions: int = Field(1, gt=0)
    """Paraphrases asked for of each row."""
    instruction: str = INSTRUCTION
    """What the policy is asked; `{text}` stands for the turn that is reworded."""
    keep_originals: bool = True
    """Make the rows as they were, too, each before its paraphrases."""
    shortest: float = Field(0.5, ge=0)
    """Fewest words of a paraphrase, as a share of the original's."""
    longest: float = Field(2.0, gt=0)
    """Most words of a paraphrase, as a share of the original's."""
    temperature: float = Field(0.7, ge=0)
    """What logits are divided by before sampling; 0 always takes the likeliest token."""

    @field_validator("instruction")
    @classmethod
    def _names_the_text(cls, value: str) -> str:
        if value.count(PLACE) != 1:
            raise ValueError(f"write {PLACE} once, where the turn goes that is reworded")
        return value

    @model_validator(mode="after")
    def _options_that_fit_together(self) -> ParaphraseOptions:
        if self.shortest > self.longest:
            raise ValueError("shortest is above longest")
        if self.versions > 1 and not self.temperature:
            raise ValueError("at temperature 0 all versions of a row are the same")
        return self


class Paraphrase(Stage[ParaphraseOptions]):
    """Let the policy say prompts in other words, and make rows with the answers they had."""

    name = "paraphrase"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"data"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_annotate.paraphrase_plan import plan  # reading data and tokenizers is heavy

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_annotate.preview import paraphrased  # the tokenizer waits until it is wanted

        return paraphrased(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_annotate.paraphrase import paraphrase  # torch waits until a step really runs

        return state.put(context.step, data=paraphrase(self.options, state, context))


FIGURES = (
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
"""All that a step records."""
