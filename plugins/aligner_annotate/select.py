"""Make rows of one prompt's scored answers: pairs, conversations or rankings, and count what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from aligner.data.rows import Messages, Tools
from aligner_annotate.answers import Candidate
from aligner_annotate.stage import PAIRING, AnnotateOptions

Row = Mapping[str, Any]


def usable(
    candidates: Sequence[Candidate], options: AnnotateOptions, dropped: Counter[str]
) -> list[int]:
    """Which candidates may be kept: that ended, say something, and say it first.

    Args:
        candidates: A prompt's answers, in the order they were sampled.
        config: Of the step.
        dropped: Gets one more for each that is left out, by reason.
    """
    kept: dict[str, int] = {}
    for place, one in enumerate(candidates):
        if options.ended_only and not one.ended:
            dropped["unended"] += 1
        elif not one.text.strip():
            dropped["empty"] += 1
        elif one.text in kept:
            dropped["identical"] += 1
        else:
            kept[one.text] = place
    return list(kept.values())


def rows_of(
    messages: Messages,
    tools: Tools | None,
    answers: Sequence[tuple[str, float]],
    options: AnnotateOptions,
    dropped: Counter[str],
) -> list[Row]:
    """The rows that are made of a prompt's usable answers.

    Args:
        messages: The prompt.
        tools: What the assistant was told it may call.
        answers: Text and score of each.
        config: Of the step.
        dropped: Gets one more for each pair or answer that is left out, by reason.
    """
    extra: dict[str, Any] = {} if tools is None else {"tools": [dict(tool) for tool in tools]}
    prompt = [dict(message) for message in messages]
    if options.keep in PAIRING:
        return [
            {
                "prompt": prompt,
                "chosen": _said(chosen),
                "rejected": _said(rejected),
                "score_chosen": high,
                "score_rejected": low,
                **extra,
            }
            for (chosen, high), (rejected, low) in _pairs(answers, options, dropped)
        ]
    if options.keep == "all":
        return (
            [
                {
                    "prompt": prompt,
                    "completions": [_said(text) for text, _ in answers],
                    "scores": [score for _, score in answers],
                    **extra,
                }
            ]
            if answers
            else []
        )
    good = [one for one in answers if options.above is None or one[1] > options.above]
    dropped["below"] += len(answers) - len(good)
    if options.keep == "best":
        good = [max(good, key=lambda one: one[1])] if good else []
    # Only what was sampled is learnt, not what the assistant is quoted with in the prompt.
    asked = [one | {"weight": 0} if one["role"] == "assistant" else one for one in prompt]
    return [{"messages": [*asked, *_said(text)], "reward": score, **extra} for text, score in good]


Scored = tuple[str, float]


def _pairs(
    answers: Sequence[Scored], options: AnnotateOptions, dropped: Counter[str]
) -> list[tuple[Scored, Scored]]:
    """Pairs of a better and a worse answer, those that differ most first."""
    ranked = sorted(answers, key=lambda one: -one[1])
    if options.keep == "best_and_worst":
        possible = [(ranked[0], ranked[-1])] if len(ranked) > 1 else []
    else:
        possible = sorted(combinations(ranked, 2), key=lambda pair: pair[1][1] - pair[0][1])
    kept = []
    for better, worse in possible:
        if better[1] == worse[1]:
            dropped["ties"] += 1
        elif better[1] - worse[1] < options.margin:
            dropped["margin"] += 1
        elif options.above is not None and better[1] <= options.above:
            dropped["below"] += 1
        else:
            kept.append((better, worse))
    return kept[: options.pairs_per_prompt]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def stand_ins(messages: Messages, tools: Tools | None, options: AnnotateOptions) -> list[Row]:
    """As many rows as one prompt may give, with numbers for answers."""
    # Far enough apart for every pair to keep the margin, and all above the bound.
    step = 2 * max(options.margin, 1.0)
    top = (options.above or 0.0) + step * options.samples_per_prompt
    answers = [(str(n + 1), top - step * n) for n in range(options.samples_per_prompt)]
    return rows_of(messages, tools, answers, options, Counter())
