"""How a recipe names data: the options under `data:`, light enough for any declaration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from aligner.data.curation.spec import EntryCuration, StepCuration
from aligner.stage import StageOptions


class DataSpec(EntryCuration):
    """Where rows come from and how they are read. A bare string is a `path`."""

    path: str | None = None
    """File, folder, glob, or URL (s3://, gs://, https://, hf://); relative to the recipe's folder."""
    hub: str | None = None
    """Data set id on the Hugging Face hub."""
    revision: str | None = None
    """Commit, tag or branch of the hub data set."""
    subset: str | None = None
    """Configuration of the hub data set."""
    split: str = "train"
    """Split of the hub data set or saved `datasets` folder."""
    source: str | None = None
    """Name of a data source that an installed plugin offers."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the data source."""
    step: str | None = None
    """Name of an earlier step of the recipe, whose rows these are."""
    format: str = "auto"
    """How rows are written; `auto` looks at them and refuses when two formats fit."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Renames columns before the format is recognised: `{question: prompt}`."""
    documents: Literal["auto", "file", "line", "paragraph"] = "auto"
    """What one row of a plain text file is: the whole file, a line, or a paragraph between blank
    lines; `auto` parts it at `<|endoftext|>` lines where it has them, else takes the whole file."""
    header: bool | None = None
    """Whether the first line of a CSV or TSV file names its columns; looked at when not said.
    Columns without names are called `column1`, `column2` and so on."""
    first: int | None = Field(None, gt=0)
    """Read only this many rows, from the start."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """What a malformed row does: stop the check, or be left out, counted and saved."""

    @model_validator(mode="before")
    @classmethod
    def _a_string_is_a_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler.resolve_ref_schema(handler(core))]}

    @model_validator(mode="after")
    def _one_origin(self) -> DataSpec:
        given = [n for n in ("path", "hub", "source", "step") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of path, hub, source and step, not {' and '.join(given) or 'none'}"
            )
        return self

    def rows_from(self) -> dict[str, str]:
        return {} if self.step is None else {"step": self.step}

    @property
    def named(self) -> str:
        """The path, hub id, source or step, as the recipe writes it."""
        return self.path or self.hub or self.source or f"step {self.step}"


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Share = Annotated[float, Field(ge=0, le=1)]

_AtLeastOne = Annotated[tuple[DataSpec, ...], Field(min_length=1)]

DataSpecs = Annotated[
    _AtLeastOne, BeforeValidator(_as_list, json_schema_input_type=DataSpec | _AtLeastOne)
]
"""One data set or several, read one after the other."""


class Decontaminate(StageOptions):
    """What rows must not have in common with the data a model is measured on."""

    against: DataSpecs | None = None
    """Data sets besides `eval_data`: benchmarks, for instance."""
    ngram: int = Field(13, ge=1)
    """Words in a run that counts as the same text (Brown et al. 2020, C). Of prompts with fewer words,
    those count that are wholly the same. System turns are not looked at."""
    share: Share = 0.0
    """Leave out rows of which a larger share of the runs is found; 0 leaves out those with any."""
    common: int = Field(10, ge=1)
    """Runs that stand in more evaluation rows than this are phrases of the form, and do not count."""


def _switched(value: Any) -> Any:
    return ({} if value else None) if isinstance(value, bool) else value


SwitchedDecontaminate = Annotated[
    Decontaminate | None,
    BeforeValidator(_switched, json_schema_input_type=bool | Decontaminate | None),
]
"""`true` compares with `eval_data` alone."""


class Limits(StageOptions):
    """The largest share of rows that each finding of the ledger may hold before the check stops.

    0 allows none, 1 any number. A finding that is not named here never stops anything.
    """

    skipped: Share = 0.05
    """Malformed rows left out under `on_bad_row: skip`."""
    dropped: Share = 0.05
    """Rows left out for any other reason: no usable answer, a pair that is none, too long."""
    filtered: Share = 1.0
    """Rows left out because the recipe asks for it: by `clean`, `deduplicate` or `decontaminate`."""
    cut: Share = 0.05
    """Rows that lose tokens or turns to `max_length`."""
    nothing_trained: Share = 0.0
    """Rows without one trained token."""
    stop_untrained: Share = 0.0
    """Rows with a trained turn that does not end with a trained end-of-turn token."""
    role_order: Share = 0.01
    """Rows whose turns do not alternate as a conversation's do; they are dropped."""
    left_out: Share = 0.0
    """Rows with tools, tool calls, tool results, reasoning or a system turn that the template
    does not show."""
    double_bos: Share = 0.0
    """Rows that begin with the beginning-of-sequence token twice."""
    unknown_tokens: Share = 0.01
    """Tokens (not rows) that the tokenizer does not know."""
    shared_prompts: Share = 0.0
    """Held-out rows whose prompt is also trained on."""
    one_label: Share = 0.0
    """Rows to train on with a verdict or class, where all have the same."""
    unseen_labels: Share = 0.0
    """Rows to measure on with a verdict or class that no row to train on has."""
    outliers: Share = 1.0
    """Rows more than eight times as long as 99 of 100 rows, where there is no `max_length`: a batch of
    them may not fit in memory."""
    duplicates: Share = 1.0
    """Rows that repeat an earlier one."""
    special_text: Share = 1.0
    """Rows whose content spells a special token; it is encoded as text in any case."""
    chosen_longer: Share = 1.0
    """Pairs whose chosen answer is the longer one."""


def refuse_changed(specs: DataSpecs | None, option: str) -> None:
    """Raise ValueError where data to measure on is to be added to or weighed: it stays what it is."""
    for spec in specs or ():
        for name in ("augment", "weight"):
            if getattr(spec, name) is not None:
                raise ValueError(f"{name} is for what is trained on, not for {option}")


Overflow = Literal["auto", "stop", "cut", "drop", "turns", "split"]


class DataOptions(StepCuration):
    """What a stage that reads data inherits: the data, what is held out, and how long rows may be."""

    # What is read determines a step, by its content; where it lies does not.
    data: DataSpecs = Field(json_schema_extra={"determines": False})
    """What to train on."""
    eval_data: DataSpecs | None = Field(None, json_schema_extra={"determines": False})
    """What to measure on; the rows must not share prompts with `data`."""
    hold_out: float = Field(0.0, ge=0, le=0.5)
    """Share of `data` kept back to measure on, chosen by a hash of the prompt, so that the same
    prompt is never on both sides and new rows move no old ones."""
    decontaminate: SwitchedDecontaminate = None
    """Leave out rows of `data` that have runs of words in common with `eval_data` or with named data
    sets."""
    max_length: int | None = Field(None, gt=1)
    """Longest row in tokens; None sets no limit."""
    overflow: Overflow = "auto"
    """What happens to a longer row: `stop` the check, `cut` its end, `drop` it, leave out its oldest
    `turns`, or `split` a text into several rows. `auto` splits texts and drops anything else; see
    `limits` for how many may be cut or dropped."""
    limits: Limits = Limits()
    """How much of each finding in the data is too much."""

    @model_validator(mode="after")
    def _one_measure(self) -> DataOptions:
        if self.eval_data is not None and self.hold_out:
            raise ValueError("give eval_data or hold_out, not both")
        return self

    @model_validator(mode="after")
    def _measured_as_it_is(self) -> DataOptions:
        refuse_changed(self.eval_data, "eval_data")
        if self.decontaminate and not (self.decontaminate.against or self.eval_data):
            raise ValueError(
                "decontaminate has nothing to compare with: give it `against`, or eval_data"
            )
        if self.mixture and self.mixture.temperature and any(one.weight for one in self.data):
            raise ValueError("give weights or mixture.temperature, not both")
        return self


TrainOn = Literal["weighted", "assistant", "last", "everything"]
"""Tokens of a conversation that are trained."""
