"""Prepare the data of a step: rows are read, held out, tokenized and truncated, every loss in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from transformers import PreTrainedTokenizerBase

from aligner.data.context import DataContext
from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.mixture import apply_mixture
from aligner.data.encoding.pieces import TextPieceEncoder
from aligner.data.encoding.pipeline import PreparePipeline
from aligner.data.encoding.tokenizers import tokenizer_hash
from aligner.data.encoding.truncation import RowEncoder, too_long_errors
from aligner.data.encoding.truncation_pairs import LabelRowEncoder, PreferenceRowEncoder
from aligner.data.encoding.truncation_sequences import (
    ConversationRowEncoder,
    PromptRowEncoder,
    TextRowEncoder,
)
from aligner.data.ledger import Ledger, ledger_from_json
from aligner.data.options import DataOptions, Overflow, TrainOn
from aligner.data.reading.load import RowStream, step_determinants
from aligner.data.reading.operations import operations_of, with_named_operations
from aligner.data.reading.skipped_rows import SkippedRow, SkippedRows
from aligner.data.reading.step_datasets import step_rows_hash
from aligner.data.store.cache import Cache
from aligner.data.store.code_version import code_version
from aligner.data.store.row_store import RowStore
from aligner.data.store.temporary_folder import temporary_folder
from aligner.data.store.token_rows import (
    LabelTokens,
    PreferenceTokens,
    PromptTokens,
    SequenceTokens,
)
from aligner.errors import AlignerError, DataError, ErrorGroup, error_location
from aligner.registry import RowKind, RowOperation

T = TypeVar("T", SequenceTokens, PreferenceTokens, PromptTokens, LabelTokens)


@dataclass(frozen=True, kw_only=True)
class PreparedData(Generic[T]):
    """The tokenized rows of a step and their ledgers.

    Rows are on the disk: each is read when it is accessed, so that any number needs no memory.
    """

    train: Sequence[T]
    held_out: Sequence[T]
    """Rows of `eval_data`, or held out of `data`; empty without either option."""
    ledgers: Mapping[str, Ledger]
    """Ledgers by option: `data`, and `eval_data` or `hold_out`."""
    hashes: Mapping[str, str]
    """SHA-256 of the content that was read, by option."""
    hash: str
    """SHA-256 of everything that determines the rows: content, options, tokenizer and chat template."""
    tokens: int
    """Number of tokens in `train`; a prompt that two answers share counts twice."""
    trained: int
    """Number of tokens in `train` that are trained."""
    skipped: Mapping[str, Collection[SkippedRow]] = field(default_factory=dict)
    """Malformed rows that were left out, by option."""

    def ledgers_as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the ledgers for `Plan.ledgers` or a JSON file."""
        return {name: ledger.as_dict() for name, ledger in self.ledgers.items()}


def prepare_texts(
    context: DataContext, options: DataOptions, tokenizer: PreTrainedTokenizerBase
) -> PreparedData[SequenceTokens]:
    """Prepare documents for language modeling; every token is trained.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all errors together.
    """
    over = _overflow(options, context, {"split", "stop", "truncate", "drop"}, "split")

    return _prepare(
        context,
        options,
        tokenizer,
        "text",
        SequenceTokens,
        lambda: TextRowEncoder(TextPieceEncoder(tokenizer), over),
        over,
    )


def _chat_encoder(tokenizer: PreTrainedTokenizerBase, context: DataContext) -> ChatEncoder:
    with error_location(context.at("data")):
        return ChatEncoder(tokenizer)


def prepare_conversations(
    context: DataContext,
    options: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    *,
    train_on: TrainOn = "weighted",
) -> PreparedData[SequenceTokens]:
    """Prepare conversations for supervised fine-tuning, with exact loss masks.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all errors together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, context, {"stop", "truncate", "drop", "turns"}, "drop")

    def encoder() -> RowEncoder[SequenceTokens]:
        return ConversationRowEncoder(_chat_encoder(tokenizer, context), over, train_on)

    return _prepare(
        context, options, tokenizer, "conversation", SequenceTokens, encoder, over, extra=train_on
    )


def prepare_preferences(
    context: DataContext, options: DataOptions, tokenizer: PreTrainedTokenizerBase
) -> PreparedData[PreferenceTokens]:
    """Prepare preference pairs.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all errors together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, context, {"stop", "truncate", "drop", "turns"}, "drop")

    def encoder() -> RowEncoder[PreferenceTokens]:
        return PreferenceRowEncoder(_chat_encoder(tokenizer, context), over)

    return _prepare(context, options, tokenizer, "preference", PreferenceTokens, encoder, over)


def prepare_labels(
    context: DataContext, options: DataOptions, tokenizer: PreTrainedTokenizerBase
) -> PreparedData[LabelTokens]:
    """Prepare prompts with one labeled answer each.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all errors together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, context, {"stop", "truncate", "drop", "turns"}, "drop")

    def encoder() -> RowEncoder[LabelTokens]:
        return LabelRowEncoder(_chat_encoder(tokenizer, context), over)

    return _prepare(context, options, tokenizer, "label", LabelTokens, encoder, over)


def prepare_prompts(
    context: DataContext,
    options: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
) -> PreparedData[PromptTokens]:
    """Prepare prompts to generate from, with the other columns of their rows.

    Args:
        context: Start of relative paths, and lines of the recipe for errors.
        options: The data and its treatment.
        tokenizer: Tokenizer with a chat template.
        max_length: Maximum length of a prompt in tokens, instead of `options.max_length`.

    Raises:
        DataError: the data is missing, malformed, or beyond `options.limits`; all errors together.
        ModelError: the tokenizer has no usable chat template.
    """
    over = _overflow(options, context, {"stop", "drop", "turns"}, "drop")
    longest = options.max_length if max_length is None else max_length

    def encoder() -> RowEncoder[PromptTokens]:
        return PromptRowEncoder(_chat_encoder(tokenizer, context), over)

    return _prepare(
        context,
        options,
        tokenizer,
        "prompt",
        PromptTokens,
        encoder,
        over,
        longest=longest,
        extra=str(longest),
    )


def _overflow(
    options: DataOptions, context: DataContext, allowed: set[Overflow], default: Overflow
) -> Overflow:
    if options.overflow == "auto":
        return default
    if options.overflow not in allowed:
        what = f"overflow {options.overflow!r} is not available for these rows"
        hint = f"choose one of {', '.join(sorted(allowed))}"
        raise DataError(what, where=context.at("overflow"), hint=hint)
    return options.overflow


def _prepare(
    context: DataContext,
    options: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    want: RowKind,
    form: type[T],
    encoder: Callable[[], RowEncoder[T]],
    over: Overflow,
    *,
    longest: int | None = None,
    extra: str = "",
) -> PreparedData[T]:
    options = with_named_operations(options, context)
    fields = {*DataOptions.model_fields, *options.operations}
    chosen = options.model_dump_json(include=fields, serialize_as_any=True)
    encoding = f"{want} {extra} {tokenizer_hash(tokenizer)}"
    key = f"prepared {encoding} {context.recipe_folder} {chosen} {step_rows_hash(options, context)}"
    if key not in context.memo:
        work = PreparePipeline(
            context=context,
            options=options,
            flows=_flows(context, options, want),
            form=form,
            longest=options.max_length if longest is None else longest,
            encoder=encoder,
        )
        # Neither the location of the data nor the limits change a row.
        truncation = f"{options.max_length} {options.overflow} {options.hold_out}"
        context.memo[key] = _prepared(work, f"{encoding} {truncation}", over)
    prepared: PreparedData[T] = context.memo[key]
    return prepared


def _flows(context: DataContext, options: DataOptions, want: RowKind) -> dict[str, RowStream]:
    given = {"data": options.data, "eval_data": options.eval_data}
    return {
        name: RowStream(specs, want=want, context=context, option=name, options=options)
        for name, specs in given.items()
        if specs is not None
    }


def _operations(options: DataOptions) -> set[type[RowOperation]]:
    """Return the classes of all row operations that `options` and their data sets name."""
    every = (options, *options.data, *(options.eval_data or ()))
    return {
        type(named.operation)
        for options in every
        for named in operations_of(options, "entry", "training entry", "step")
    }


def _prepared(work: PreparePipeline, determining: str, over: Overflow) -> PreparedData[Any]:
    context, options = work.context, work.options
    parts = [flow.known() for flow in work.flows.values()]
    step_parts = "" if None in parts else step_determinants(options, context)
    key = json.dumps(
        [code_version(context.registry, _operations(options)), determining, over, step_parts, parts]
    )
    # Data whose content is unknown before it is read cannot be found in the cache of another process.
    cache = Cache(context.cache) if context.cache is not None and None not in parts else None
    if cache is None or not cache.writable:
        cache = Cache(temporary_folder(context.memo))
    entry, about = cache.get(hashlib.sha256(key.encode()).hexdigest(), work.write)
    rows = {name: RowStore(entry / f"{name}.arrow", work.form) for name in about["splits"]}
    ledgers = {name: ledger_from_json(split["ledger"]) for name, split in about["splits"].items()}
    train, ledgers["data"] = apply_mixture(
        rows["data"], ledgers["data"], about["splits"]["data"]["counts"], options, context.seed
    )
    errors: list[AlignerError] = []
    for name, split in about["splits"].items():
        first = [(origin, tokens) for origin, tokens in split["too_long"]]
        errors += too_long_errors(
            first, split["too_long_rows"], work.longest, context.at("max_length")
        )
        errors += ledgers[name].errors(options.limits, context.at(name))
    ErrorGroup.raise_if_any(errors)
    measured = next((name for name in rows if name != "data"), None)
    hashes: dict[str, str] = about["hashes"]
    if step_parts := step_parts or step_determinants(options, context):
        whole = f"{hashes['data']} {step_parts}"
        hashes = hashes | {"data": hashlib.sha256(whole.encode()).hexdigest()}
    return PreparedData(
        train=train,
        held_out=rows[measured] if measured else [],
        ledgers=ledgers,
        hashes=hashes,
        hash=hashlib.sha256(f"{determining} {sorted(hashes.items())}".encode()).hexdigest(),
        tokens=ledgers["data"].tokens,
        trained=ledgers["data"].trained,
        skipped={
            name: SkippedRows(entry / f"skipped-{name}.jsonl", count)
            for name, count in about["skipped"].items()
        },
    )
