"""Options of the row operations of this plugin."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from aligner import ExtensionOptions
from aligner.kit.rows import ComparingOptions

Share = Annotated[float, Field(ge=0, le=1)]
Characters = Annotated[int, Field(ge=0)]


class Clean(ExtensionOptions):
    """Changes to the text of every turn, and filters that apply to the cleaned rows."""

    whitespace: Literal["tidy", "collapse", "keep"] = "tidy"
    """Treatment of white space: `tidy` removes spaces at the ends of lines, blank lines around a text and
    more than two blank lines in a row; `collapse` also replaces several spaces or blank lines by one,
    outside fenced code; `keep` changes nothing."""
    control: bool = True
    """Remove control characters, terminal escape sequences, zero-width spaces and byte order marks."""
    unicode: Literal["NFC", "NFKC", "keep"] = "NFC"
    """Unicode normalization: NFC composes accented letters and changes no meaning; NFKC also replaces
    ligatures, full-width letters and other compatibility characters by plain ones."""
    html: bool = False
    """Convert HTML to text: tags are removed and entities decoded, outside fenced code."""
    min_chars: Characters | None = None
    """Leave out rows with fewer characters than this in all of their turns together."""
    max_chars: Characters | None = None
    """Leave out rows with more characters than this in all of their turns together."""
    min_answer_chars: Characters | None = None
    """Leave out rows with an answer of fewer characters than this."""
    max_answer_chars: Characters | None = None
    """Leave out rows with an answer of more characters than this."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Leave out rows in any language but these, given as ISO 639-1 codes: `[en, de]`. Needs
    `aligner[curation]`."""
    language_min_chars: Characters = 40
    """Number of characters below which a row is kept whatever its language, as it is too short to
    identify."""
    drop_matching: tuple[str, ...] = ()
    """Leave out rows with a turn that one of these regular expressions matches anywhere."""
    keep_matching: tuple[str, ...] = ()
    """Leave out rows in which none of these regular expressions matches anywhere."""
    max_repetition: Share | None = None
    """Leave out rows with a text of which more than this share is lines, or sequences of five words, that
    occur earlier in the text (after Rae et al. 2021, A1.1)."""


RedactKind = Literal["email", "phone", "key", "ip", "card", "iban"]


class Redact(ExtensionOptions):
    """Kinds of personal data and secrets that are replaced by `[email]`, `[phone]` and so on."""

    shorthand: ClassVar[str] = "kinds"

    kinds: Annotated[tuple[RedactKind, ...], Field(min_length=1)] = (
        "email", "phone", "key", "ip", "card", "iban",
    )  # fmt: skip
    """Kinds to replace: e-mail addresses, phone numbers, keys and passwords of services, public IP
    addresses, numbers of payment cards, bank accounts. `phone` needs `aligner[curation]`."""
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None
    """Country whose national phone numbers are recognized, as a two-letter code such as `US`; without it
    only international numbers, with a +, are."""


class Augment(ExtensionOptions):
    """Changes that make the copies of a row."""

    copies: int = Field(1, ge=1, le=20)
    """Number of changed copies of each row; a copy that equals its original is not added."""
    synonyms: str | None = None
    """Thesaurus file, relative to the folder of the recipe, with a word, a tab and its synonyms separated
    by commas on each line."""
    replace: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the words with synonyms that are replaced by one (Wei & Zou 2019), at least one word."""
    shuffle_sentences: bool = False
    """Shuffle the sentences of each paragraph."""
    swap: Share = 0.0
    """Share of the words that are exchanged with another word of the text."""
    delete: Share = 0.0
    """Share of the words that are deleted."""
    answers: bool = False
    """Change the assistant's turns as well as the user's."""

    @model_validator(mode="after")
    def _changes_something(self) -> Augment:
        if not (self.synonyms or self.shuffle_sentences or self.swap or self.delete):
            raise ValueError("give synonyms, shuffle_sentences, swap or delete")
        return self


class Deduplicate(ExtensionOptions):
    """Criteria by which a row repeats an earlier one; the first row is kept."""

    shorthand: ClassVar[str] = "method"

    method: Literal["exact", "near"] = "exact"
    """Comparison of two rows: `exact` compares their text, see `normalize`; `near` compares the sequences
    of words that they share by MinHash (Broder 1997) and needs `aligner[curation]`."""
    of: Literal["all", "prompt", "answer"] = "all"
    """Part of the rows that is compared: the whole row, its prompt, or its answers."""
    normalize: bool = False
    """For `exact`: ignore case, quotation marks, punctuation at the end of words and repeated spaces."""
    threshold: float = Field(0.8, gt=0, lt=1)
    """For `near`: Jaccard similarity, the share of sequences in common, from which rows are repeats."""
    ngram: int = Field(5, ge=1)
    """For `near`: number of words or characters in a sequence."""
    unit: Literal["words", "characters"] = "words"
    """For `near`: units of the sequences; characters suit languages without spaces."""
    permutations: int = Field(128, ge=16, le=1024)
    """For `near`: number of hash functions; more are slower and estimate the similarity better."""
    conflicts: Literal["keep", "drop"] = "keep"
    """Treatment of contradictions: `drop` also leaves out a pair that prefers what an earlier pair rejects,
    and a text with another label than before."""


class Decontaminate(ComparingOptions):
    """Overlap with evaluation data that excludes a row from training."""

    ngram: int = Field(13, ge=1)
    """Number of words in a sequence that counts as the same text (Brown et al. 2020, C). A shorter prompt
    counts if it is the same as a whole. System turns are ignored."""
    share: Share = 0.0
    """Leave out rows of which more than this share of the sequences is found in the evaluation data; 0
    leaves out rows with any."""
    common: int = Field(10, ge=1)
    """Number of evaluation rows above which a sequence that occurs in all of them is a phrase of the format
    and does not count."""
