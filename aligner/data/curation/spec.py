"""How a recipe says what is done to its data: the options of a data entry, and those of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aligner.stage import StageOptions

Share = Annotated[float, Field(ge=0, le=1)]
Characters = Annotated[int, Field(ge=0)]


class Clean(StageOptions):
    """What is tidied in every turn, and which rows are left out then. `true` takes the defaults."""

    whitespace: Literal["tidy", "collapse", "keep"] = "tidy"
    """`tidy` removes spaces at the ends of lines, blank lines around a text and more than two in a row,
    and leaves code as it is; `collapse` also makes one of several spaces or blank lines, outside fenced
    code."""
    control: bool = True
    """Remove control characters, terminal escapes, zero-width spaces and byte order marks."""
    unicode: Literal["NFC", "NFKC", "keep"] = "NFC"
    """Unicode normalisation: NFC writes accents one way and changes no meaning; NFKC also turns
    ligatures, full-width letters and the like into plain ones."""
    html: bool = False
    """Turn HTML into text: tags are removed, entities are read; fenced code stays as it is."""
    min_chars: Characters | None = None
    """Leave out rows with fewer characters in all of their turns."""
    max_chars: Characters | None = None
    """Leave out rows with more."""
    min_answer_chars: Characters | None = None
    """Leave out rows with an answer of fewer characters."""
    max_answer_chars: Characters | None = None
    """Leave out rows with an answer of more."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Leave out rows in other languages than these, by their ISO 639-1 codes: `[en, de]`. Needs
    `aligner[curation]`."""
    language_min_chars: Characters = 40
    """A shorter text is not judged by its language, as that cannot be told."""
    drop_matching: tuple[str, ...] = ()
    """Leave out rows with a turn in which one of these regular expressions is found."""
    keep_matching: tuple[str, ...] = ()
    """Leave out rows in which none of these regular expressions is found."""
    max_repetition: Share | None = None
    """Leave out rows with a text of which a larger share is lines, or runs of five words, that stood in
    it before (after Rae et al. 2021, A1.1)."""


RedactKind = Literal["email", "phone", "key", "ip", "card", "iban"]


class Redact(StageOptions):
    """What is replaced by `[email]`, `[phone]` and so on. `true` is all; a list names the kinds."""

    kinds: Annotated[tuple[RedactKind, ...], Field(min_length=1)] = (
        "email", "phone", "key", "ip", "card", "iban",
    )  # fmt: skip
    """E-mail addresses, phone numbers, keys and passwords of services, public IP addresses, numbers of
    payment cards, bank accounts. `phone` needs `aligner[curation]`."""
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None
    """Country whose phone numbers are recognised without +: `US`. Without it only international ones
    are."""


class Augment(StageOptions):
    """Changed copies of rows, made only of rows that are trained on, after some were held out."""

    copies: int = Field(1, ge=1, le=20)
    """Changed copies of each row; one that comes out unchanged is not added."""
    synonyms: str | None = None
    """Thesaurus, relative to the recipe's folder: a word, a tab, and its synonyms between commas on each
    line."""
    replace: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the words that have synonyms to replace by one (Wei & Zou 2019), at least one."""
    shuffle_sentences: bool = False
    """Put the sentences of each paragraph in another order."""
    swap: Share = 0.0
    """Share of the words to exchange with another word."""
    delete: Share = 0.0
    """Share of the words to leave out."""
    answers: bool = False
    """Change the assistant's turns as well as the user's."""

    @model_validator(mode="after")
    def _does_something(self) -> Augment:
        if not (self.synonyms or self.shuffle_sentences or self.swap or self.delete):
            raise ValueError("give synonyms, shuffle_sentences, swap or delete")
        return self


def _switch(value: Any) -> Any:
    """`true` asks for the defaults, `false` for nothing."""
    return ({} if value else None) if isinstance(value, bool) else value


def _kinds(value: Any) -> Any:
    return {"kinds": value} if isinstance(value, list | tuple) else _switch(value)


_SwitchedClean = Annotated[
    Clean | None, BeforeValidator(_switch, json_schema_input_type=bool | Clean | None)
]
_SwitchedRedact = Annotated[
    Redact | None,
    BeforeValidator(_kinds, json_schema_input_type=bool | tuple[RedactKind, ...] | Redact | None),
]


class EntryCuration(StageOptions):
    """What is done to the rows of one data entry, in this order."""

    clean: _SwitchedClean = None
    """Tidy the text of all turns, and leave out rows by length, language, pattern or repetition."""
    redact: _SwitchedRedact = None
    """Replace personal data and secrets in all turns: `true`, `[email, phone]`, or options."""
    parts: Mapping[str, Annotated[float, Field(gt=0, lt=1)]] | None = None
    """Shares of the parts the entry is split into: `{train: 0.8, validation: 0.1, test: 0.1}`. A row's
    part is found by a hash of its prompt, so that rows added later move no others, and one prompt's
    rows are all in one part, in every step."""
    part: str | None = None
    """Which of the `parts` to read."""
    sample: float | None = Field(None, gt=0)
    """Read a random sample: a share below 1, or a whole number of rows; drawn from the seed by a hash of
    each row, so that rows added later move no others of a share."""
    augment: Augment | None = None
    """Add changed copies of the rows that are trained on."""
    weight: float | None = Field(None, gt=0)
    """Share of the entry among all entries' rows, relative to the others' weights; 1 where only others
    give one. See `mixture`."""

    @model_validator(mode="after")
    def _whole_parts(self) -> EntryCuration:
        if self.sample is not None and self.sample >= 1 and not self.sample.is_integer():
            raise ValueError(f"sample is {self.sample:g}: give a share below 1, or whole rows")
        if (self.part is None) != (self.parts is None):
            raise ValueError("give part and parts together: which part, and how large each is")
        if self.parts is not None and self.part is not None:
            if self.part not in self.parts:
                raise ValueError(f"there is no part {self.part!r} among {', '.join(self.parts)}")
            if abs(sum(self.parts.values()) - 1) > 1e-6:
                raise ValueError(f"the parts make {sum(self.parts.values()):g}, and must make 1")
        return self


class Deduplicate(StageOptions):
    """Which rows count as repeating an earlier one; the first is kept."""

    method: Literal["exact", "near"] = "exact"
    """`exact`: the same text, see `normalize`. `near`: most runs of words in common, by MinHash
    (Broder 1997); needs `aligner[curation]`."""
    of: Literal["all", "prompt", "answer"] = "all"
    """What is compared: all of a row, only its prompt, or only its answers."""
    normalize: bool = False
    """For `exact`: leave capitals, quotes, sentence marks and the number of spaces out of account."""
    threshold: float = Field(0.8, gt=0, lt=1)
    """For `near`: the share of the runs in common (Jaccard similarity) from which rows are repeats."""
    ngram: int = Field(5, ge=1)
    """For `near`: words, or characters, in a run."""
    unit: Literal["words", "characters"] = "words"
    """For `near`: what runs are made of; characters for languages without spaces."""
    permutations: int = Field(128, ge=16, le=1024)
    """For `near`: hash functions; more are slower and closer to the true similarity."""
    conflicts: Literal["keep", "drop"] = "keep"
    """`drop` also leaves out a pair that prefers what an earlier one rejects, and a text labelled
    otherwise than before."""


def _method(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else _switch(value)


_SwitchedDeduplicate = Annotated[
    Deduplicate | None,
    BeforeValidator(
        _method, json_schema_input_type=bool | Literal["exact", "near"] | Deduplicate | None
    ),
]


class Mixture(StageOptions):
    """How many rows of each data entry there are in one pass."""

    temperature: float | None = Field(None, ge=1)
    """Flatten the entries' sizes in place of giving weights: an entry of n rows weighs n^(1/T)
    (Raffel et al. 2020, 3.5.2); 1 leaves them, a large one makes all alike."""
    rows: int | None = Field(None, gt=0)
    """Rows in all."""
    meet: Literal["same", "under", "over"] | None = None
    """Where `rows` is not given: as many rows as there are (`same`, the default), as many as there can
    be without repeating one (`under`), or as many as it takes to leave none out (`over`)."""

    @model_validator(mode="after")
    def _one_total(self) -> Mixture:
        if self.rows is not None and self.meet is not None:
            raise ValueError("give rows or meet, not both")
        return self


class StepCuration(StageOptions):
    """What is done to the rows of all entries of `data` together, in this order."""

    deduplicate: _SwitchedDeduplicate = None
    """Leave out rows that repeat an earlier one: `exact`, `near`, or options."""
    mixture: Mixture | None = None
    """Take more or fewer rows of each entry, by their `weight`s or by a temperature. Weights are met
    without it, too."""
    shuffle: bool = False
    """Put the rows in an order drawn from the recipe's seed before they are packed or trained on, each
    epoch's own shuffling aside."""
