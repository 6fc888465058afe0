"""Prepare the data of a step: rows loaded, held out, encoded and fitted, with every loss accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from transformers import PreTrainedTokenizerBase

from aligner.data.chat import Chat, Encoded, PreferenceTokens
from aligner.data.fit import fit_conversations, fit_prompts, fit_texts
from aligner.data.fit_pairs import fit_labels, fit_preferences
from aligner.data.fitted import Fitted, LabelTokens, PromptTokens
from aligner.data.kinds import prompt_key
from aligner.data.ledger import Count, Ledger, spread, together
from aligner.data.load import Loaded, Skipped, hold_out, load
from aligner.data.made import made_hash
from aligner.data.pieces import Encoder
from aligner.data.place import Place
from aligner.data.rows import Row
from aligner.data.spec import DataOptions, Overflow, TrainOn
from aligner.data.tokenizers import fingerprint
from aligner.errors import AlignerError, DataError, Faults
from aligner.offers import RowKind

T = TypeVar("T", Encoded, PreferenceTokens, PromptTokens, LabelTokens)

__all__ = [
    "LabelTokens",
    "Prepared",
    "PromptTokens",
    "prepare_conversations",
    "prepare_labels",
    "prepare_preferences",
    "prepare_prompts",
    "prepare_texts",
]


@dataclass(frozen=True, kw_only=True)
class Prepared(Generic[T]):
    """The rows of a step as token ids, and the account of how they came about."""

    train: Sequence[T]
    held_out: Sequence[T]
    """From `eval_data`, or held out of `data`; empty where neither was asked for."""
    ledgers: Mapping[str, Ledger]
    """By option: `data`, and `eval_data` or `hold_out`."""
    hashes: Mapping[str, str]
    """SHA-256 of what was read, by option."""
    hash: str
    """SHA-256 of all that determines the rows: content, options, tokenizer and chat template."""
    tokens: int
    """Tokens in `train`; a prompt that two answers share counts once for each."""
    trained: int
    """Those of them that a loss is put on."""
    skipped: Mapping[str, Sequence[Skipped]] = field(default_factory=dict)
    """Malformed rows that were left out, by option, to be saved."""

    def ledgers_as_dict(self) -> dict[str, dict[str, Any]]:
        """The ledgers for `Plan.ledgers` or a JSON file."""
        return {name: ledger.as_dict() for name, ledger in self.ledgers.items()}


def prepare_texts(
    place: Place, options: DataOptions, tokenizer: PreTrainedTokenizerBase
) -> Prepared[Encoded]:
    """Documents for language modelling, every token trained.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all faults together.
    """
    over = _overflow(options, place, {"split", "stop", "cut", "drop"}, "split")

    def fit(rows: Sequence[Any]) -> Fitted[Encoded]:
        return fit_texts(rows, Encoder(tokenizer), over, options.max_length)

    return _prepare(place, options, tokenizer, "text", fit)


def prepare_conversations(
    place: Place,
    options: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    *,
    train_on: TrainOn = "weighted",
) -> Prepared[Encoded]:
    """Conversations for supervised fine-tuning, with exact loss masks.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all faults together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, place, {"stop", "cut", "drop", "turns"}, "drop")

    def fit(rows: Sequence[Any]) -> Fitted[Encoded]:
        chat = Chat(tokenizer, where=place.at("data"))
        return fit_conversations(rows, chat, over, options.max_length, train_on)

    return _prepare(place, options, tokenizer, "conversation", fit, extra=train_on)


def prepare_preferences(
    place: Place, options: DataOptions, tokenizer: PreTrainedTokenizerBase
) -> Prepared[PreferenceTokens]:
    """Preference pairs.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all faults together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, place, {"stop", "cut", "drop", "turns"}, "drop")

    def fit(rows: Sequence[Any]) -> Fitted[PreferenceTokens]:
        chat = Chat(tokenizer, where=place.at("data"))
        return fit_preferences(rows, chat, over, options.max_length)

    return _prepare(place, options, tokenizer, "preference", fit)


def prepare_labels(
    place: Place, options: DataOptions, tokenizer: PreTrainedTokenizerBase
) -> Prepared[LabelTokens]:
    """Prompts with one answer each, and whether it is a good one.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all faults together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, place, {"stop", "cut", "drop", "turns"}, "drop")

    def fit(rows: Sequence[Any]) -> Fitted[LabelTokens]:
        chat = Chat(tokenizer, where=place.at("data"))
        return fit_labels(rows, chat, over, options.max_length)

    return _prepare(place, options, tokenizer, "label", fit)


def prepare_prompts(
    place: Place,
    options: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
) -> Prepared[PromptTokens]:
    """Prompts to generate from, with the other columns of their rows.

    Args:
        place: Where relative paths start, and where errors point.
        options: Which data.
        tokenizer: With its chat template.
        max_length: Longest prompt in tokens, in place of `options.max_length`.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all faults together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, place, {"stop", "drop", "turns"}, "drop")
    longest = options.max_length if max_length is None else max_length

    def fit(rows: Sequence[Any]) -> Fitted[PromptTokens]:
        return fit_prompts(rows, Chat(tokenizer, where=place.at("data")), over, longest)

    return _prepare(place, options, tokenizer, "prompt", fit, extra=str(longest))


def _overflow(
    options: DataOptions, place: Place, allowed: set[Overflow], default: Overflow
) -> Overflow:
    if options.overflow == "auto":
        return default
    if options.overflow not in allowed:
        what = f"overflow {options.overflow!r} does not go with these rows"
        hint = f"it may be {', '.join(sorted(allowed))}"
        raise DataError(what, where=place.at("overflow"), hint=hint)
    return options.overflow


def _prepare(
    place: Place,
    options: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    want: RowKind,
    fit: Callable[[Sequence[Any]], Fitted[T]],
    extra: str = "",
) -> Prepared[T]:
    chosen = options.model_dump_json(include=set(DataOptions.model_fields))
    encoding = f"{want} {extra} {fingerprint(tokenizer)}"
    key = f"prepared {encoding} {place.recipe_folder} {chosen} {made_hash(options, place)}"
    if key not in place.scratch:
        # Not where the data lies, and not the limits: neither changes a row.
        fitting = f"{options.max_length} {options.overflow} {options.hold_out}"
        place.scratch[key] = _work_out(place, options, want, fit, f"{encoding} {fitting}")
    prepared: Prepared[T] = place.scratch[key]
    return prepared


def _work_out(
    place: Place,
    options: DataOptions,
    want: RowKind,
    fit: Callable[[Sequence[Any]], Fitted[T]],
    determining: str,
) -> Prepared[T]:
    sides = _sides(place, options, want)
    fitted = {name: fit(rows) for name, (rows, _) in sides.items()}
    ledgers = {
        name: _ledger(loaded, rows, fitted[name], alone=name != "hold_out")
        for name, (rows, loaded) in sides.items()
    }
    measured = next((name for name in sides if name != "data"), None)
    if measured:
        shared = _shared(sides["data"][0], sides[measured][0])
        found = together(ledgers[measured].found, shared)
        ledgers[measured] = replace(ledgers[measured], found=found)
    faults: list[AlignerError] = []
    for name, ledger in ledgers.items():
        faults += fitted[name].faults(place.at("max_length"))
        faults += ledger.faults(options.limits, place.at(name))
    Faults.raise_if_any(faults)
    data = fitted["data"]
    hashes = {name: loaded.hash for name, (_, loaded) in sides.items()}
    return Prepared(
        train=data.rows,
        held_out=fitted[measured].rows if measured else [],
        ledgers=ledgers,
        hashes=hashes,
        hash=hashlib.sha256(f"{determining} {sorted(hashes.items())}".encode()).hexdigest(),
        tokens=ledgers["data"].tokens,
        trained=ledgers["data"].trained,
        skipped={name: one.skipped for name, (_, one) in sides.items() if name != "hold_out"},
    )


def _sides(
    place: Place, options: DataOptions, want: RowKind
) -> dict[str, tuple[Sequence[Row], Loaded]]:
    """The rows to train on, and by the name of the option those to measure on."""
    faults: list[AlignerError] = []
    loaded: dict[str, Loaded] = {}
    for name, specs in (("data", options.data), ("eval_data", options.eval_data)):
        try:
            if specs is not None:
                loaded[name] = load(specs, want=want, place=place, option=name)
        except AlignerError as error:
            faults.append(error)
    Faults.raise_if_any(faults)
    data = loaded["data"]
    if not options.hold_out:
        return {name: (one.rows, one) for name, one in loaded.items()}
    train, held = hold_out(data.rows, options.hold_out)
    if not train or not held:
        side = "nothing is left to train on" if held else "no row is held out"
        what = f"{side}: {len(data.rows)} rows, hold_out {options.hold_out:g}"
        hint = "use more rows, another share, or eval_data"
        raise DataError(what, where=place.at("hold_out"), hint=hint)
    return {"data": (train, data), "hold_out": (held, data)}


def _shared(train: Sequence[Row], measured: Sequence[Row]) -> dict[str, Count]:
    seen = {prompt_key(row) for row in train}
    both = [row.origin for row in measured if prompt_key(row) in seen]
    return {"shared_prompts": Count(len(both), tuple(both[:5]))} if both else {}


def _ledger(loaded: Loaded, rows: Sequence[Row], fitted: Fitted[Any], *, alone: bool) -> Ledger:
    """The account of one side; what loading found is told once, with the side that is trained."""
    before = loaded.ledger
    if not alone:
        before = Ledger(name=f"{before.name} (held out)", read=len(rows), converted=len(rows))
    elif len(rows) < len(loaded.rows):
        before = replace(before, converted=before.converted - len(loaded.rows) + len(rows))
    tally = fitted.tally
    return replace(
        before,
        used=len(fitted.rows),
        dropped=together(before.dropped, tally.dropped),
        found=together(before.found, tally.found),
        lengths=spread(fitted.lengths),
        tokens=fitted.tokens,
        trained=fitted.trained,
        cut_tokens=fitted.cut_tokens,
        unknown_tokens=fitted.unknown,
    )
