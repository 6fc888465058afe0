"""Say what an evaluate step will measure, and find every reason why it cannot, before weights load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aligner.data.planned import planned_policy
from aligner.data.prepare import Prepared
from aligner.data.tokenizers import planned_tokenizer
from aligner.errors import AlignerError, ChainError, Collected, DataError, ModelError, did_you_mean
from aligner.models.inspect import planned_model
from aligner.models.precision import attention_faults, precision_of, quantize_faults
from aligner.stage import Look, Plan
from aligner.state import Slot
from aligner_evaluate.material import KINDS, prepared, prompts, reference_answer
from aligner_evaluate.scores import judge_of
from aligner_evaluate.stage import COMPARING, EvaluateConfig, figures_of
from aligner_evaluate.voices import spoken_through


def plan(config: EvaluateConfig, look: Look) -> Plan:
    faults = Collected()
    data: dict[str, Prepared[Any]] = {}
    tokenizer, facts = planned_policy(look, faults)
    if tokenizer is not None:
        for kind in KINDS:
            with faults:
                if (rows := prepared(config, kind, look, tokenizer)) is not None:
                    data[kind] = rows
        with faults:
            if (asked := prompts(config, look, tokenizer)) is not None:
                data["prompts"] = asked[0]
                faults.found += _without_reference(config, asked[1], look)
        faults.found += _past_faults(config, tokenizer, look)
    if facts is not None:
        faults.found += _too_long(config, data, look)
    faults.found += _machine_faults(config, look) + _judge_faults(config, look)
    faults.found += _score_faults(config, look)
    faults.raise_if_any()
    reward = config.reward_model and "reward" in look.slots
    return Plan(
        summary=_summary(config, data),
        rows=sum(len(rows.train) for rows in data.values()),
        tokens=sum(rows.tokens for rows in data.values()),
        figures=frozenset(figures_of(config, reward=reward)),
        data={kind: rows.hash for kind, rows in data.items()},
        ledgers={kind: rows.ledgers["data"].as_dict() for kind, rows in data.items()},
    )


def _summary(config: EvaluateConfig, data: dict[str, Prepared[Any]]) -> str:
    rows = ", ".join(f"{len(one.train)} {kind}" for kind, one in data.items())
    by = [f"judge {config.judge.name}"] if config.judge else []
    by += [f"against {' and '.join(config.against)}"] if config.against else []
    by += [f"KL to {' and '.join(config.kl_to)}"] if config.kl_to else []
    return "; ".join([f"measure on {rows}", *by])


def _without_reference(config: EvaluateConfig, rows: Any, look: Look) -> list[AlignerError]:
    comparing = [name for name in config.metrics if name in COMPARING]
    bare = [row.origin for row in rows if reference_answer(row) is None]
    if not comparing or not bare:
        return []
    more = ", …" if len(bare) > 3 else ""
    return [
        DataError(
            f"metrics {', '.join(comparing)} need a reference answer, and {len(bare)} of "
            f"{len(rows)} prompts have none: {', '.join(bare[:3])}{more}",
            where=look.at("metrics"),
            hint="reference answers stand in a column `answer`; rename one with `columns: {NAME: answer}`",
        )
    ]


def _too_long(
    config: EvaluateConfig, data: dict[str, Prepared[Any]], look: Look
) -> list[AlignerError]:
    """Rows, or prompts with their longest answers, that go beyond the positions of who reads them."""
    readers: list[tuple[Slot, str, tuple[str, ...]]] = [
        ("policy", "the policy", ("prompts", "conversations", "text"))
    ]
    if "reward" in look.slots:
        read = ("prompts", "pairs") if config.reward_model else ("pairs",)
        readers.append(("reward", "the reward model", read))
    faults = Collected()
    for slot, name, kinds in readers:
        with faults:
            positions = planned_model(look, slot).positions
            for kind in kinds:
                if kind in data and positions is not None:
                    longest = int(data[kind].ledgers["data"].lengths.get("max", 0))
                    faults.found += _beyond(config, kind, longest, positions, name, look)
    return faults.found


def _beyond(
    config: EvaluateConfig, kind: str, longest: int, positions: int, reader: str, look: Look
) -> list[AlignerError]:
    new = config.max_new_tokens if kind == "prompts" else 0
    if longest + new <= positions:
        return []
    if kind == "prompts" and longest < positions:
        return [
            ModelError(
                f"the longest prompt has {longest} tokens, and with {new} new ones it is longer than "
                f"the {positions} positions of {reader}",
                where=look.at("max_new_tokens"),
                hint=f"set max_new_tokens to {positions - longest} or less, "
                f"or max_length to {positions - new}",
            )
        ]
    return [
        ModelError(
            f"the longest row of {kind} has {longest} tokens, and {reader} {positions} positions",
            where=look.at(kind),
            hint=f"set max_length to {positions - new} or less, to leave longer prompts out"
            if kind == "prompts"
            else f"set max_length to {positions} or less",
        )
    ]


def _machine_faults(config: EvaluateConfig, look: Look) -> list[AlignerError]:
    faults = Collected()
    with faults:
        precision_of(config.precision, where=look.at("precision"))
    found = faults.found
    found += quantize_faults(config.quantize, where=look.at("quantize"))
    return found + attention_faults(config.attention, where=look.at("attention"))


def _judge_faults(config: EvaluateConfig, look: Look) -> list[AlignerError]:
    if config.judge is None:
        return []
    offered = look.offers.reward_functions
    if config.judge.name not in offered:
        return [
            ChainError(
                f"no plugin offers a reward function {config.judge.name!r} to judge by",
                where=look.at("judge"),
                hint=did_you_mean(config.judge.name, offered),
            )
        ]
    faults = Collected()
    with faults:
        judge_of(config.judge, look)
    return faults.found


def _score_faults(config: EvaluateConfig, look: Look) -> list[AlignerError]:
    if not config.against or config.decides == "judge" or "reward" in look.slots:
        return []
    return [
        ChainError(
            "win rates need scores, and there is neither a judge nor a reward model",
            where=look.at("against"),
            hint="name a `judge`, or put a step before this one that fills 'reward'",
        )
    ]


def _past_faults(config: EvaluateConfig, tokenizer: Any, look: Look) -> list[AlignerError]:
    """Earlier models that cannot be asked, or not be weighed against the policy."""
    faults = Collected()
    looked_at = [("against", step) for step in config.against]
    looked_at += [("kl_to", step) for step in config.kl_to]
    for option, step in looked_at:
        there = look.past.get(step)
        if there is None:
            continue  # the chain complains about names of no step
        with faults:
            filled = {"policy", "tokenizer"} <= there.keys()
            spoken_through(
                planned_tokenizer(replace(look, slots=there)) if filled else None,
                tokenizer,
                step=step,
                same_tokens=option == "kl_to",
                where=look.at(option),
            )
    return faults.found
