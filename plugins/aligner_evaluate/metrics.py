"""Metrics on answers as `evaluate` metrics of our own: nothing is downloaded, nothing written to disk.

Words are runs of letters and digits, case folded, in every metric.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import datasets
import evaluate

from aligner_evaluate.stage import COMPARING, Metric


def words(text: str) -> list[str]:
    """
    >>> words("It's 3.5 — Very_good!")
    ['it', 's', '3', '5', 'very', 'good']
    """
    return re.findall(r"[^\W_]+", text.casefold())


class _Texts(evaluate.Metric):  # type: ignore[misc]  # the library has no types
    """Strings in, one metric out."""

    about = ""
    cites = ""
    compares = False

    def _info(self) -> Any:
        columns = ["predictions", "references"] if self.compares else ["predictions"]
        return evaluate.MetricInfo(
            description=self.about,
            citation=self.cites,
            inputs_description="Texts, one a row.",
            features=datasets.Features({name: datasets.Value("string") for name in columns}),
        )


class ExactMatch(_Texts):
    about = "Share of answers with the very words of the reference, in their order."
    compares = True

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        same = [words(p) == words(r) for p, r in zip(predictions, references, strict=True)]
        return {"exact_match": _mean(same)}


class TokenF1(_Texts):
    about = "Harmonic mean of the shares of words that answer and reference have in common."
    cites = "Rajpurkar 2016, section 6.1"
    compares = True

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        pairs = zip(predictions, references, strict=True)
        return {"token_f1": _mean([_f1(words(p), words(r), _in_common) for p, r in pairs])}


class RougeL(_Texts):
    about = "As token_f1, counting only the longest common subsequence: words in the same order."
    cites = "Lin 2004, section 3.1, with beta 1 and no stemming"
    compares = True

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        pairs = zip(predictions, references, strict=True)
        return {"rouge_l": _mean([_f1(words(p), words(r), _in_order) for p, r in pairs])}


class Distinct1(_Texts):
    about = "Different words among all words of all answers."
    cites = "Li 2016, section 5"

    def _compute(self, predictions: Sequence[str]) -> dict[str, float]:
        return {"distinct_1": _distinct(predictions, 1)}


class Distinct2(_Texts):
    about = "Different pairs of neighbouring words among all such pairs of all answers."
    cites = "Li 2016, section 5"

    def _compute(self, predictions: Sequence[str]) -> dict[str, float]:
        return {"distinct_2": _distinct(predictions, 2)}


class Repetition(_Texts):
    about = (
        "Share of an answer's runs of four words that stood in it before, averaged over answers."
    )
    cites = "Welleck 2020, section 3: seq-rep-4"

    def _compute(self, predictions: Sequence[str]) -> dict[str, float]:
        shares = []
        for text in predictions:
            runs = _runs(words(text), 4)
            shares.append(1 - len(set(runs)) / len(runs) if runs else 0.0)
        return {"repetition": _mean(shares)}


CLASSES: Mapping[Metric, type[_Texts]] = {
    "exact_match": ExactMatch,
    "token_f1": TokenF1,
    "rouge_l": RougeL,
    "distinct_1": Distinct1,
    "distinct_2": Distinct2,
    "repetition": Repetition,
}


def compute_metrics(
    names: Sequence[Metric], answers: Sequence[str], references: Sequence[str]
) -> dict[str, float]:
    """The metrics `names` over `answers`.

    Args:
        names: Which.
        answers: What the model wrote; at least one.
        references: What they are held against; looked at only by the metrics that compare.
    """
    metrics: dict[str, float] = {}
    for name in names:
        metric = CLASSES[name](keep_in_memory=True)
        columns = {"references": list(references)} if name in COMPARING else {}
        metrics |= metric.compute(predictions=list(answers), **columns)
    return metrics


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _f1(answer: list[str], reference: list[str], common: Any) -> float:
    if not answer or not reference:
        return float(answer == reference)
    return 2 * float(common(answer, reference)) / (len(answer) + len(reference))


def _in_common(one: list[str], other: list[str]) -> int:
    return (Counter(one) & Counter(other)).total()


def _in_order(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence."""
    line = [0] * (len(other) + 1)
    for word in one:
        above = line
        line = [0]
        for place, (corner, top) in enumerate(pairwise(above)):
            line.append(corner + 1 if word == other[place] else max(top, line[-1]))
    return line[-1]


def _runs(text: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(text[i : i + length]) for i in range(len(text) - length + 1)]


def _distinct(answers: Sequence[str], length: int) -> float:
    runs = [run for text in answers for run in _runs(words(text), length)]
    return len(set(runs)) / len(runs) if runs else 0.0
