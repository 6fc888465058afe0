"""Plans of annotate and paraphrase steps, with all errors before weights load."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from aligner import Plan, PlanContext, Slot
from aligner.kit.declare import ChainError, ErrorCollector
from aligner.kit.work import forecast_rows, option_errors, planned_policy, reward_errors
from aligner_annotate.checks import check_stop_tokens, judge_errors, length_errors
from aligner_annotate.generation import read_prompts
from aligner_annotate.options import (
    PARAPHRASE_METRICS,
    AnnotateOptions,
    Keep,
    ParaphraseOptions,
    annotate_metrics,
)
from aligner_annotate.paraphrase_rows import read_requests, rows_with
from aligner_annotate.rows import placeholder_rows

T = TypeVar("T")


def plan_annotate(options: AnnotateOptions, context: PlanContext) -> Plan:
    """Read the prompts, and check the models and the sources of scores.

    Raises:
        AlignerError: every error found.
    """
    errors = ErrorCollector()
    data = _read(errors, context, lambda tokenizer: read_prompts(options, context, tokenizer))
    if data is not None:
        readers: list[tuple[Slot, str]] = [("policy", "the policy")]
        readers += [("reward", "the reward model")] if options.by_model else []
        errors.found += length_errors(data.train, options.max_new_tokens, readers, context)
    errors.found += reward_errors(options.score, context, option="score")
    if data is not None and options.judge is not None:
        errors.found += judge_errors(options, options.judge, data.train, context)
    errors.found += option_errors(options, at=context.at)
    errors.raise_if_any()
    assert data is not None, "without an error there is data"
    rows = [
        row
        for prompt in data.train
        for row in placeholder_rows(prompt.messages, prompt.tools, options)
    ]
    return _plan(
        context,
        summary=_summary(options, context),
        option="prompts",
        inputs=data.train,
        read=len(data.train),
        rows=rows,
        metrics=annotate_metrics(options),
        hash=data.hash,
        ledger=data.ledgers["data"].as_dict(),
        skipped=data.skipped.get("data", ()),
        note=f"{len(data.train) * options.samples_per_prompt} completions, of which at most "
        f"{len(rows)} {_ROWS[options.keep]} are made",
    )


def plan_paraphrase(options: ParaphraseOptions, context: PlanContext) -> Plan:
    """Read the rows, and check the model.

    Raises:
        AlignerError: every error found.
    """
    errors = ErrorCollector()
    found = _read(errors, context, lambda tokenizer: read_requests(options, context, tokenizer))
    if found is not None and not found.requests:
        what = f"none of {len(found.rows)} rows has a user turn that can be paraphrased"
        hint = "raise max_length" if options.max_length else ""
        errors.found.append(ChainError(what, where=context.at("data"), hint=hint))
    elif found is not None:
        readers: list[tuple[Slot, str]] = [("policy", "the policy")]
        errors.found += length_errors(found.requests, options.max_new_tokens, readers, context)
    errors.found += option_errors(options, at=context.at)
    errors.raise_if_any()
    assert found is not None, "without an error there is data"
    # A number before the turn: as many words as a short paraphrase, and all versions are different.
    texts = {
        number: [f"{version + 1} {request.text}" for version in range(options.versions)]
        for number, request in enumerate(found.requests)
    }
    rows = rows_with(found, texts, options.keep_originals)
    generated = len(found.requests) * options.versions
    return _plan(
        context,
        summary=f"generate {options.versions} paraphrase{'' if options.versions == 1 else 's'} of the "
        f"last user turn of each {options.rows}, at temperature {options.temperature:g}",
        option="data",
        inputs=found.requests,
        read=len(found.rows),
        rows=rows,
        metrics=PARAPHRASE_METRICS,
        hash=found.hash,
        ledger=found.ledger,
        skipped=found.skipped,
        note=f"{generated} paraphrases are generated, and at most {len(rows)} rows made",
    )


def _read(errors: ErrorCollector, context: PlanContext, read: Callable[[Any], T]) -> T | None:
    """Read the data with the planned tokenizer, and collect errors of both and of the stop tokens."""
    data: T | None = None
    tokenizer, _ = planned_policy(context, errors)
    if tokenizer is not None:
        with errors:
            data = read(tokenizer)
        with errors:
            check_stop_tokens(tokenizer)
    return data


def _plan(
    context: PlanContext,
    *,
    summary: str,
    option: str,
    inputs: Sequence[Any],
    read: int,
    rows: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
    hash: str,  # of the data, as `Plan.data` names it
    ledger: Mapping[str, Any],
    skipped: Collection[Any],
    note: str,
) -> Plan:
    return Plan(
        summary=summary,
        rows=read,
        tokens=sum(len(row.input_ids) for row in inputs),
        metrics=frozenset(metrics),
        data={option: hash},
        ledgers={option: ledger},
        skipped={option: [asdict(row) for row in skipped]},
        slots={"data": forecast_rows(rows, made_by=context.step)},
        notes=(note,),
    )


_ROWS: dict[Keep, str] = {
    "best_and_worst": "preference pairs",
    "pairs": "preference pairs",
    "best": "conversations",
    "above": "conversations",
    "all": "rows of scored completions",
}
_KEPT: dict[Keep, str] = {
    "best_and_worst": "keep the best and the worst as a pair",
    "pairs": "keep pairs",
    "best": "keep the best",
    "above": "keep those above",
    "all": "keep all",
}


def _summary(options: AnnotateOptions, context: PlanContext) -> str:
    sources = [
        (
            f"the reward model of {context.slots['reward'].made_by!r}"
            if source.is_model
            else source.name
        )
        + (f" × {source.weight:g}" if source.weight != 1 else "")
        for source in options.score
    ]
    if options.judge is not None:
        judge = "the policy" if options.judge.of is None else f"{options.judge.of}'s policy"
        weight = f" × {options.judge.weight:g}" if options.judge.weight != 1 else ""
        sources.append(f"{judge} as judge{weight}")
    kept = _KEPT[options.keep]
    if options.keep == "above":
        kept += f" {options.above:g}"
    if options.keep == "pairs" and options.pairs_per_prompt:
        kept = f"keep at most {options.pairs_per_prompt} pairs"
    return (
        f"complete each prompt {options.samples_per_prompt} times at temperature "
        f"{options.temperature:g}, score by {', '.join(sources)}, {kept}"
    )
