"""Each metric by numbers worked by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aligner_evaluate.metrics import CLASSES, text_metrics
from aligner_evaluate.options import REFERENCE_METRICS, TEXT_METRICS, TextMetric


def of(metric: TextMetric, answers: list[str], references: list[str] | None = None) -> float:
    return text_metrics([metric], answers, references or [""] * len(answers))[metric]


def test_the_declared_metrics_are_those_there_are() -> None:
    assert tuple(CLASSES) == TEXT_METRICS
    assert {name for name, item in CLASSES.items() if item.compares} == REFERENCE_METRICS
    assert all(item.about for item in CLASSES.values())


def test_an_exact_match_has_the_same_words_in_the_same_order() -> None:
    """Of six answers the first two match: case and punctuation do not count, order and words do."""
    answers = ["Paris.", " it's  PARIS ", "Paris France", "France Paris", "", "Lyon"]
    references = ["paris", "It’s Paris", "Paris", "Paris France", "Paris", "Paris"]
    assert of("exact_match", answers, references) == pytest.approx(2 / 6)


def test_token_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    """ "a b b c" and "b b b d": 2 of 4 words in common both ways, so F1 = 1/2.

    "a" and "a b c": precision 1, recall 1/3, F1 = 2 * (1/3) / (4/3) = 1/2. Nothing and something: 0.
    Nothing and nothing: 1.
    """
    assert of("token_f1", ["a b b c"], ["b b b d"]) == pytest.approx(0.5)
    assert of("token_f1", ["a"], ["a b c"]) == pytest.approx(0.5)
    assert of("token_f1", ["", "!"], ["a", "?"]) == pytest.approx(0.5)


def test_rouge_l_counts_the_longest_common_subsequence() -> None:
    """Lin's example: "police killed the gunman" against "police kill the gunman": 3 of 4, F = 3/4;
    "the gunman kill police": LCS 2 of 4, F = 1/2.

    "a b c d" against "d a x b": LCS "a b" = 2, F = 2 * 2 / 8 = 1/2; the words in common would be 3.
    """
    reference = "police killed the gunman"
    assert of("rouge_l", ["police kill the gunman"], [reference]) == pytest.approx(3 / 4)
    assert of("rouge_l", ["the gunman kill police"], [reference]) == pytest.approx(2 / 4)
    assert of("rouge_l", ["a b c d"], ["d a x b"]) == pytest.approx(1 / 2)
    assert of("token_f1", ["a b c d"], ["d a x b"]) == pytest.approx(3 / 4)


def test_distinct_counts_different_runs_over_all_answers_together() -> None:
    """ "a b a" and "b a": words a b a b a, 2 of 5 differ; pairs ab ba ba, 2 of 3 differ."""
    assert of("distinct_1", ["a b a", "b a"]) == pytest.approx(2 / 5)
    assert of("distinct_2", ["a b a", "b a"]) == pytest.approx(2 / 3)
    assert of("distinct_2", ["a", ""]) == 0


def test_repetition_is_the_share_of_four_word_runs_that_stood_before() -> None:
    """ "x y z w x y z w": 5 runs of four, the last equals the first, 1/5. Three words have no run."""
    assert of("repetition", ["x y z w x y z w"]) == pytest.approx(1 / 5)
    assert of("repetition", ["x y z w x y z w", "a b c"]) == pytest.approx(1 / 10)


def test_metrics_write_no_file_and_leave_the_random_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "metrics"
    there = sorted(home.rglob("*"))
    before = np.random.get_state()[1].copy()
    metrics = text_metrics(TEXT_METRICS, ["a b", "c"], ["a b", "d"])
    assert list(metrics) == list(TEXT_METRICS)
    assert sorted(home.rglob("*")) == there
    assert list(tmp_path.iterdir()) == []
    assert (np.random.get_state()[1] == before).all()
