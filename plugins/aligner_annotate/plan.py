"""Say what an annotate step will make, and find every reason why it cannot, before weights load."""

from __future__ import annotations

from dataclasses import asdict

from aligner import Look, Plan
from aligner.data.made import outlook_of_rows
from aligner.data.planned import planned_policy
from aligner.errors import Collected
from aligner.state import Slot
from aligner.train.reward_spec import MODEL
from aligner.train.scoring import reward_faults
from aligner_annotate.faults import endless, judge_faults, machine_faults, too_long
from aligner_annotate.prompts import prompts_of
from aligner_annotate.select import stand_ins
from aligner_annotate.stage import AnnotateConfig, Keep, figures_of


def plan(config: AnnotateConfig, look: Look) -> Plan:
    """Look at the prompts, the models and what scores.

    Raises:
        AlignerError: every fault found.
    """
    faults = Collected()
    data = None
    tokenizer, _ = planned_policy(look, faults)
    if tokenizer is not None:
        with faults:
            data = prompts_of(config, look, tokenizer)
        faults.found += endless(tokenizer, look)
    if data is not None:
        longest = max(len(row.input_ids) for row in data.train)
        readers: list[tuple[Slot, str]] = [("policy", "the policy")]
        readers += [("reward", "the reward model")] if config.by_model else []
        faults.found += too_long(longest, config.max_new_tokens, readers, look)
    faults.found += reward_faults(config.score, look, option="score")
    if data is not None and config.judge is not None:
        with faults:
            faults.found += judge_faults(config, config.judge, data.train, look)
    faults.found += machine_faults(config, look)
    faults.raise_if_any()
    assert data is not None, "without a fault there is data"
    rows = [row for one in data.train for row in stand_ins(one.messages, one.tools, config)]
    return Plan(
        summary=_summary(config, look),
        rows=len(data.train),
        tokens=data.tokens,
        figures=frozenset(figures_of(config)),
        data={"prompts": data.hash},
        ledgers={"prompts": data.ledgers["data"].as_dict()},
        skipped={"prompts": [asdict(one) for one in data.skipped.get("data", ())]},
        slots={"data": outlook_of_rows(rows, made_by=look.step)},
        notes=(
            f"{len(data.train) * config.samples_per_prompt} answers, "
            f"of which at most {len(rows)} {_KIND[config.keep]} are made",
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


def _summary(config: AnnotateConfig, look: Look) -> str:
    by = [
        (f"the reward model of {look.slots['reward'].made_by!r}" if one.name == MODEL else one.name)
        + (f" × {one.weight:g}" if one.weight != 1 else "")
        for one in config.score
    ]
    if config.judge is not None:
        who = "the policy" if config.judge.of is None else f"{config.judge.of}'s policy"
        weight = f" × {config.judge.weight:g}" if config.judge.weight != 1 else ""
        by.append(f"{who} as judge{weight}")
    kept = _KEPT[config.keep]
    if config.keep == "above":
        kept += f" {config.above:g}"
    if config.keep == "pairs" and config.pairs_per_prompt:
        kept = f"keep at most {config.pairs_per_prompt} pairs"
    return (
        f"answer each prompt {config.samples_per_prompt} times at temperature "
        f"{config.temperature:g}, score by {', '.join(by)}, {kept}"
    )
