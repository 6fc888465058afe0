"""Say what an annotate step will make, and find every reason why it cannot, before weights load."""

from __future__ import annotations

from dataclasses import asdict

from aligner import Plan, PlanContext
from aligner.data.encoding.planned_policy import planned_policy
from aligner.data.reading.step_datasets import forecast_rows
from aligner.errors import ErrorCollector
from aligner.models.precision import option_errors
from aligner.state import Slot
from aligner.train.reward_options import MODEL
from aligner.train.scoring import reward_errors
from aligner_annotate.errors import endless, judge_errors, too_long
from aligner_annotate.prompts import prompts_of
from aligner_annotate.select import stand_ins
from aligner_annotate.stage import AnnotateOptions, Keep, metrics_of


def plan(options: AnnotateOptions, context: PlanContext) -> Plan:
    """Look at the prompts, the models and what scores.

    Raises:
        AlignerError: every error found.
    """
    errors = ErrorCollector()
    data = None
    tokenizer, _ = planned_policy(context, errors)
    if tokenizer is not None:
        with errors:
            data = prompts_of(options, context, tokenizer)
        errors.found += endless(tokenizer, context)
    if data is not None:
        longest = max(len(row.input_ids) for row in data.train)
        readers: list[tuple[Slot, str]] = [("policy", "the policy")]
        readers += [("reward", "the reward model")] if options.by_model else []
        errors.found += too_long(longest, options.max_new_tokens, readers, context)
    errors.found += reward_errors(options.score, context, option="score")
    if data is not None and options.judge is not None:
        with errors:
            errors.found += judge_errors(options, options.judge, data.train, context)
    errors.found += option_errors(options, at=context.at)
    errors.raise_if_any()
    assert data is not None, "without an error there is data"
    rows = [row for one in data.train for row in stand_ins(one.messages, one.tools, options)]
    return Plan(
        summary=_summary(options, context),
        rows=len(data.train),
        tokens=data.tokens,
        metrics=frozenset(metrics_of(options)),
        data={"prompts": data.hash},
        ledgers={"prompts": data.ledgers["data"].as_dict()},
        skipped={"prompts": [asdict(one) for one in data.skipped.get("data", ())]},
        slots={"data": forecast_rows(rows, made_by=context.step)},
        notes=(
            f"{len(data.train) * options.samples_per_prompt} answers, "
            f"of which at most {len(rows)} {_KIND[options.keep]} are made",
        ),
    )


_KIND: dict[Keep, str] = {
    "best_and_worst": "preference pairs",
    "pairs": "preference pairs",
    "best": "conversations",
    "above": "conversations",
    "all": "rows of scored answers",
}
_KEPT: dict[Keep, str] = {
    "best_and_worst": "keep the best and the worst as a pair",
    "pairs": "keep pairs",
    "best": "keep the best",
    "above": "keep those above",
    "all": "keep all",
}


def _summary(options: AnnotateOptions, context: PlanContext) -> str:
    by = [
        (
            f"the reward model of {context.slots['reward'].made_by!r}"
            if one.name == MODEL
            else one.name
        )
        + (f" × {one.weight:g}" if one.weight != 1 else "")
        for one in options.score
    ]
    if options.judge is not None:
        who = "the policy" if options.judge.of is None else f"{options.judge.of}'s policy"
        weight = f" × {options.judge.weight:g}" if options.judge.weight != 1 else ""
        by.append(f"{who} as judge{weight}")
    kept = _KEPT[options.keep]
    if options.keep == "above":
        kept += f" {options.above:g}"
    if options.keep == "pairs" and options.pairs_per_prompt:
        kept = f"keep at most {options.pairs_per_prompt} pairs"
    return (
        f"answer each prompt {options.samples_per_prompt} times at temperature "
        f"{options.temperature:g}, score by {', '.join(by)}, {kept}"
    )
