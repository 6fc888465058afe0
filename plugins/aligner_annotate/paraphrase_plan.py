"""Say how many rows a paraphrase step may make, and find every reason why it cannot, before weights load."""

from __future__ import annotations

from dataclasses import asdict

from aligner import Plan, PlanContext
from aligner.data.encoding.planned_policy import planned_policy
from aligner.data.reading.step_datasets import forecast_rows
from aligner.errors import ChainError, ErrorCollector
from aligner.models.precision import option_errors
from aligner_annotate.errors import endless, too_long
from aligner_annotate.paraphrase_stage import FIGURES, ParaphraseOptions
from aligner_annotate.reword import requests_of, rows_with


def plan(options: ParaphraseOptions, context: PlanContext) -> Plan:
    """Look at the rows and the model.

    Raises:
        AlignerError: every error found.
    """
    errors = ErrorCollector()
    found = None
    tokenizer, _ = planned_policy(context, errors)
    if tokenizer is not None:
        with errors:
            found = requests_of(options, context, tokenizer)
        errors.found += endless(tokenizer, context)
    if found is not None and not found.requests:
        what = f"none of {len(found.rows)} rows has a user turn that could be reworded"
        hint = "raise max_length" if options.max_length else ""
        errors.found.append(ChainError(what, where=context.at("data"), hint=hint))
    elif found is not None:
        longest = max(len(one.input_ids) for one in found.requests)
        errors.found += too_long(
            longest, options.max_new_tokens, [("policy", "the policy")], context
        )
    errors.found += option_errors(options, at=context.at)
    errors.raise_if_any()
    assert found is not None, "without an error there is data"
    # Numbers before the turn: as many words as a short paraphrase, and none like another.
    texts = {
        place: [f"{version + 1} {one.text}" for version in range(options.versions)]
        for place, one in enumerate(found.requests)
    }
    rows = rows_with(found, texts, options.keep_originals)
    asked = len(found.requests) * options.versions
    return Plan(
        summary=f"ask for {options.versions} paraphrase{'' if options.versions == 1 else 's'} of the "
        f"last user turn of each {options.rows}, at temperature {options.temperature:g}",
        rows=len(found.rows),
        tokens=sum(len(one.input_ids) for one in found.requests),
        metrics=frozenset(FIGURES),
        data={"data": found.hash},
        ledgers={"data": found.ledger.as_dict()},
        skipped={"data": [asdict(one) for one in found.skipped]},
        slots={"data": forecast_rows(rows, made_by=context.step)},
        notes=(f"{asked} paraphrases are asked for, and at most {len(rows)} rows made",),
    )
