"""Make rows of a prompt's scored completions: pairs, conversations or rankings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from aligner.kit.rows import Messages, Tools
from aligner_annotate.generation import Candidate
from aligner_annotate.options import PAIRING, AnnotateOptions

Row = Mapping[str, Any]
ScoredText = tuple[str, float]


def usable_candidates(
    candidates: Sequence[Candidate], options: AnnotateOptions, dropped: Counter[str]
) -> list[int]:
    """Return the indices of completions that ended, are not empty, and repeat no earlier one.

    Args:
        candidates: Completions of a prompt, in the order they were sampled.
        options: Options of the step.
        dropped: Number of dropped completions by reason; updated.
    """
    first: dict[str, int] = {}
    for index, candidate in enumerate(candidates):
        if options.ended_only and not candidate.ended:
            dropped["unended"] += 1
        elif not candidate.text.strip():
            dropped["empty"] += 1
        elif candidate.text in first:
            dropped["identical"] += 1
        else:
            first[candidate.text] = index
    return list(first.values())


def make_rows(
    messages: Messages,
    tools: Tools | None,
    answers: Sequence[ScoredText],
    options: AnnotateOptions,
    dropped: Counter[str],
) -> list[Row]:
    """Make the rows of a prompt's usable completions.

    Args:
        messages: The prompt.
        tools: Tools that the assistant may call.
        answers: Text and score of each completion.
        options: Options of the step.
        dropped: Number of dropped pairs and completions by reason; updated.
    """
    extra: dict[str, Any] = {} if tools is None else {"tools": [dict(tool) for tool in tools]}
    prompt = [dict(message) for message in messages]
    if options.keep in PAIRING:
        return [
            {
                "prompt": prompt,
                "chosen": _assistant(chosen),
                "rejected": _assistant(rejected),
                "score_chosen": high,
                "score_rejected": low,
                **extra,
            }
            for (chosen, high), (rejected, low) in _pairs(answers, options, dropped)
        ]
    if options.keep == "all":
        ranking = {
            "prompt": prompt,
            "completions": [_assistant(text) for text, _ in answers],
            "scores": [score for _, score in answers],
            **extra,
        }
        return [ranking] if answers else []
    good = [answer for answer in answers if options.above is None or answer[1] > options.above]
    dropped["below"] += len(answers) - len(good)
    if options.keep == "best":
        good = [max(good, key=lambda answer: answer[1])] if good else []
    # Train on the sampled completion only, not on the assistant's turns in the prompt.
    turns = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in prompt]
    return [
        {"messages": [*turns, *_assistant(text)], "reward": score, **extra} for text, score in good
    ]


def _pairs(
    answers: Sequence[ScoredText], options: AnnotateOptions, dropped: Counter[str]
) -> list[tuple[ScoredText, ScoredText]]:
    """Return pairs of a better and a worse completion, those of largest margin first."""
    ranked = sorted(answers, key=lambda answer: -answer[1])
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


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def placeholder_rows(
    messages: Messages, tools: Tools | None, options: AnnotateOptions
) -> list[Row]:
    """Make as many rows as a prompt may give, with numbers for completions, to plan later steps."""
    # Scores are far enough apart for every pair to exceed the margin, and all exceed the threshold.
    step = 2 * max(options.margin, 1.0)
    top = (options.above or 0.0) + step * options.samples_per_prompt
    answers = [(str(n + 1), top - step * n) for n in range(options.samples_per_prompt)]
    return make_rows(messages, tools, answers, options, Counter())
