"""Options that name data in a recipe, light enough for any declaration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from aligner.registry import ExtensionOptions
from aligner.stage import StageOptions

Share = Annotated[float, Field(ge=0, le=1)]


class RowSelection(StageOptions):
    """Selection of rows of a data set: they decide which rows are read, and change none of them."""

    first: int | None = Field(None, gt=0)
    """Number of rows to read from the start of the data; by default all are read."""
    parts: Mapping[str, Annotated[float, Field(gt=0, lt=1)]] | None = None
    """Shares of the parts into which the data is split, by name: `{train: 0.8, validation: 0.1, test:
    0.1}`. A hash of its prompt decides the part of a row, so that new rows do not move others and all
    rows of a prompt are in the same part in every step."""
    part: str | None = None
    """Name of the part in `parts` to read."""
    sample: float | None = Field(None, gt=0)
    """Size of a random sample to read: a share of the rows if it is below 1, else a number of rows. A hash
    of each row and the seed decides, so that new rows do not move others in or out of a share."""
    weight: float | None = Field(None, gt=0)
    """Share of this data set in the mixture of all data sets of the step, relative to the weights of the
    others; 1 if only others have a weight. See `mixture`."""

    @model_validator(mode="after")
    def _is_consistent(self) -> RowSelection:
        if self.sample is not None and self.sample >= 1 and not self.sample.is_integer():
            raise ValueError(
                f"sample is {self.sample:g}: give a share below 1 or a whole number of rows"
            )
        if (self.part is None) != (self.parts is None):
            raise ValueError("give part and parts together: the part to read and the size of each")
        if self.parts is not None and self.part is not None:
            if self.part not in self.parts:
                raise ValueError(f"there is no part {self.part!r} among {', '.join(self.parts)}")
            if abs(sum(self.parts.values()) - 1) > 1e-6:
                raise ValueError(
                    f"the parts sum to {sum(self.parts.values()):g}, and must sum to 1"
                )
        return self


class DataSpec(RowSelection):
    """A data set: its location, its format, the rows to read and the row operations on them.

    A bare string is a `path`.
    """

    # Other options name row operations, which plugins provide: `with_operations` declares them.
    model_config = ConfigDict(extra="allow")
    operation_scopes = frozenset({"entry", "training entry"})

    path: str | None = None
    """File, folder, glob or URL (s3://, gs://, https://, hf://) of the data; a relative path starts at the
    folder of the recipe."""
    hub: str | None = None
    """Id of a data set on the Hugging Face hub."""
    revision: str | None = None
    """Commit, tag or branch of the data set on the hub."""
    subset: str | None = None
    """Configuration (subset) of the data set on the hub."""
    split: str = "train"
    """Split to read of a data set on the hub or in a folder saved by `datasets`."""
    source: str | None = None
    """Name of a data source that an installed plugin provides."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the data source."""
    step: str | None = None
    """Name of an earlier step of the recipe that generates the rows."""
    format: str = "auto"
    """Format of the rows; `auto` detects it from the columns and reports an error if two formats match."""
    columns: dict[str, str] = Field(default_factory=dict)
    """New names of columns, applied before the format is detected: `{question: prompt}`."""
    documents: Literal["auto", "file", "line", "paragraph"] = "auto"
    """Unit of plain text that becomes one row: the whole `file`, a `line`, or a `paragraph` between blank
    lines; `auto` splits at lines that contain only `<|endoftext|>`, or takes the whole file if there are
    none."""
    header: bool | None = None
    """True if the first line of a CSV or TSV file names its columns; detected from the line if not given.
    Columns without names are called `column1`, `column2` and so on."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """Treatment of malformed rows: `stop` reports them as errors, `skip` leaves them out, counts them and
    saves them."""

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
    def _has_one_location(self) -> DataSpec:
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
        """The path, hub id, source or step, as written in the recipe."""
        return self.path or self.hub or self.source or f"step {self.step}"


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


_AtLeastOne = Annotated[tuple[DataSpec, ...], Field(min_length=1)]

DataSpecs = Annotated[
    _AtLeastOne, BeforeValidator(_as_list, json_schema_input_type=DataSpec | _AtLeastOne)
]
"""One data set or several, read one after the other."""


class ComparingOptions(ExtensionOptions):
    """Base of the options of row operations that compare rows with other data sets."""

    against: DataSpecs | None = None
    """Data sets to compare with in addition to `eval_data`, for example benchmarks."""


class Limits(StageOptions):
    """Largest share of rows with each finding of the ledger; above it the check stops.

    0 allows none, and 1 allows any number. A finding without a limit never stops the check.
    """

    skipped: Share = 0.05
    """Largest share of malformed rows that `on_bad_row: skip` leaves out."""
    dropped: Share = 0.05
    """Largest share of rows dropped for any other reason, for example an empty answer or their length."""
    filtered: Share = 1.0
    """Largest share of rows that the recipe asks to leave out: by `clean`, `deduplicate` or other
    operations."""
    truncated: Share = 0.05
    """Largest share of rows that lose tokens or turns to `max_length`."""
    nothing_trained: Share = 0.0
    """Largest share of rows without any trained token."""
    stop_untrained: Share = 0.0
    """Largest share of rows with a trained turn that does not end with a trained end-of-turn token."""
    role_order: Share = 0.01
    """Largest share of rows dropped because user and assistant do not take turns."""
    left_out: Share = 0.0
    """Largest share of rows with tools, tool calls, tool results, reasoning or a system turn that the chat
    template omits."""
    double_bos: Share = 0.0
    """Largest share of rows that begin with the beginning-of-sequence token twice."""
    unknown_tokens: Share = 0.01
    """Largest share of tokens (not rows) that are the tokenizer's unknown token."""
    shared_prompts: Share = 0.0
    """Largest share of evaluation rows whose prompt is also trained on."""
    one_label: Share = 0.0
    """Largest share of training rows with a label if all of them have the same label."""
    unseen_labels: Share = 0.0
    """Largest share of evaluation rows with a label that no training row has."""
    outliers: Share = 1.0
    """Largest share of rows more than eight times as long as 99 of 100 rows, if there is no `max_length`; a
    batch of them may not fit in memory."""
    duplicates: Share = 1.0
    """Largest share of rows that repeat an earlier row."""
    special_text: Share = 1.0
    """Largest share of rows whose content contains the text of a special token; it is tokenized as plain
    text."""
    chosen_longer: Share = 1.0
    """Largest share of pairs whose chosen answer is longer than the rejected one."""


def refuse_training_options(specs: DataSpecs | None, option: str) -> None:
    """Raise ValueError if evaluation data has options that add rows to it or weigh them."""
    for spec in specs or ():
        adding = [
            n for n, installed in spec.operations.items() if installed.operation.scope != "entry"
        ]
        for name in (*adding, "weight"):
            if getattr(spec, name) is not None:
                raise ValueError(f"{name} applies to training data only, not to {option}")


class Mixture(StageOptions):
    """Number of rows of each data set in one epoch."""

    temperature: float | None = Field(None, ge=1)
    """Temperature T that flattens the sizes of the data sets instead of weights: a data set of n rows has
    the weight n^(1/T) (Raffel et al. 2020, 3.5.2); 1 keeps the sizes, a large one makes all alike."""
    rows: int | None = Field(None, gt=0)
    """Number of rows in one epoch."""
    meet: Literal["same", "under", "over"] | None = None
    """Number of rows in one epoch if `rows` is not given: as many as there are (`same`, the default), as
    many as possible without repeating a row (`under`), or as many as are needed to use every row
    (`over`)."""

    @model_validator(mode="after")
    def _one_total(self) -> Mixture:
        if self.rows is not None and self.meet is not None:
            raise ValueError("give rows or meet, not both")
        return self


class RowOrder(StageOptions):
    """Proportion and order of the rows of all data sets of a step."""

    mixture: Mixture | None = None
    """Number of rows of each data set in one epoch, by their `weight` or a temperature; weights apply
    without this option as well."""
    shuffle: bool = False
    """Put the rows into a random order drawn from the seed before they are packed or trained on; each epoch
    is shuffled anyway."""


Overflow = Literal["auto", "stop", "truncate", "drop", "turns", "split"]


class DataOptions(RowOrder):
    """Options of every stage that reads data: the data, the held-out rows, the length limit."""

    # Other options name row operations, which plugins provide: `with_operations` declares them.
    model_config = ConfigDict(extra="allow")
    operation_scopes = frozenset({"step"})

    # A step is determined by the content of its data, wherever that is stored.
    data: DataSpecs = Field(json_schema_extra={"determines": False})
    """Data sets to train on."""
    eval_data: DataSpecs | None = Field(None, json_schema_extra={"determines": False})
    """Data sets to evaluate on; their rows must not share prompts with `data`."""
    hold_out: float = Field(0.0, ge=0, le=0.5)
    """Share of `data` to hold out for evaluation, selected by a hash of the prompt, so that rows of one
    prompt stay together and new rows do not move others."""
    max_length: int | None = Field(None, gt=1)
    """Maximum length of a row in tokens; by default there is no limit."""
    overflow: Overflow = "auto"
    """Treatment of longer rows: `stop` reports them as errors, `truncate` cuts off the end, `drop` leaves
    the row out, `turns` removes the oldest turns, and `split` makes several rows of a text. `auto` splits
    texts and drops other rows; see `limits` for how many may be truncated or dropped."""
    limits: Limits = Limits()
    """Largest share of rows with each finding of the ledger; the check stops above it."""

    @model_validator(mode="after")
    def _one_evaluation_set(self) -> DataOptions:
        if self.eval_data is not None and self.hold_out:
            raise ValueError("give eval_data or hold_out, not both")
        return self

    @model_validator(mode="after")
    def _data_fits_its_use(self) -> DataOptions:
        refuse_training_options(self.eval_data, "eval_data")
        for name, installed in self.operations.items():
            options = getattr(self, name)
            if installed.operation.compares and options and not (options.against or self.eval_data):
                raise ValueError(
                    f"{name} has nothing to compare with: give it `against`, or eval_data"
                )
        if self.mixture and self.mixture.temperature and any(spec.weight for spec in self.data):
            raise ValueError("give weights or mixture.temperature, not both")
        return self


TrainOn = Literal["weighted", "assistant", "last", "everything"]
"""Tokens of a conversation that are trained."""
