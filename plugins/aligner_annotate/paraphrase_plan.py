"""Say how many rows a paraphrase step may make, and find every reason why it cannot, before weights load."""

from __future__ import annotations

from dataclasses import asdict

from aligner import Look, Plan
from aligner.data.made import outlook_of_rows
from aligner.data.planned import planned_policy
from aligner.errors import ChainError, Collected
from aligner_annotate.faults import endless, machine_faults, too_long
from aligner_annotate.paraphrase_stage import FIGURES, ParaphraseConfig
from aligner_annotate.reword import requests_of, rows_with


def plan(config: ParaphraseConfig, look: Look) -> Plan:
    """Look at the rows and the model.

    Raises:
        AlignerError: every fault found.
    """
    faults = Collected()
    found = None
    tokenizer, _ = planned_policy(look, faults)
    if tokenizer is not None:
        with faults:
            found = requests_of(config, look, tokenizer)
        faults.found += endless(tokenizer, look)
    if found is not None and not found.requests:
        what = f"none of {len(found.rows)} rows has a user turn that could be reworded"
        hint = "raise max_length" if config.max_length else ""
        faults.found.append(ChainError(what, where=look.at("data"), hint=hint))
    elif found is not None:
        longest = max(len(one.input_ids) for one in found.requests)
        faults.found += too_long(longest, config.max_new_tokens, [("policy", "the policy")], look)
    faults.found += machine_faults(config, look)
    faults.raise_if_any()
    assert found is not None, "without a fault there is data"
    # Numbers before the turn: as many words as a short paraphrase, and none like another.
    texts = {
        place: [f"{version + 1} {one.text}" for version in range(config.versions)]
        for place, one in enumerate(found.requests)
    }
    rows = rows_with(found, texts, config.keep_originals)
    asked = len(found.requests) * config.versions
    return Plan(
        summary=f"ask for {config.versions} paraphrase{'' if config.versions == 1 else 's'} of the "
        f"last user turn of each {config.rows}, at temperature {config.temperature:g}",
        rows=len(found.rows),
        tokens=sum(len(one.input_ids) for one in found.requests),
        figures=frozenset(FIGURES),
        data={"data": found.hash},
        ledgers={"data": found.ledger.as_dict()},
        skipped={"data": [asdict(one) for one in found.skipped]},
        slots={"data": outlook_of_rows(rows, made_by=look.step)},
        notes=(f"{asked} paraphrases are asked for, and at most {len(rows)} rows made",),
    )
