"""Survey a data set: labels, lengths, first words, repeats, languages, words for groups of people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aligner.data.ledger import summarize_lengths
from aligner.data.row_keys import content_key
from aligner.data.row_texts import prompt_text, texts_of
from aligner.data.rows import (
    KINDS,
    ClassifiedText,
    LabeledCompletion,
    Preference,
    Prompt,
    Ranking,
    Row,
    ScoredCompletion,
    Text,
)

GROUPS: Mapping[str, tuple[str, ...]] = {
    "women": ("she", "her", "hers", "woman", "women", "girl", "girls", "female"),
    "men": ("he", "him", "his", "man", "men", "boy", "boys", "male"),
    "old": ("old", "elderly", "senior", "seniors"),
    "young": ("young", "youth", "teenager", "teenagers"),
    "christians": ("christian", "christians", "church"),
    "muslims": ("muslim", "muslims", "mosque"),
    "jews": ("jewish", "jew", "jews", "synagogue"),
    "hindus": ("hindu", "hindus"),
    "atheists": ("atheist", "atheists"),
    "black": ("black", "african"),
    "white": ("white", "caucasian"),
    "asian": ("asian", "asians", "chinese", "indian", "japanese", "korean"),
    "gay": ("gay", "lesbian", "homosexual", "transgender", "queer"),
    "disabled": ("disabled", "disability", "blind", "deaf", "wheelchair"),
    "immigrants": ("immigrant", "immigrants", "refugee", "refugees", "migrant", "migrants"),
}
"""English words for groups of people: coarse, to find where to look, not to judge by."""

BEGINNINGS = 10
"""Number of the most frequent first words that are listed."""
JUDGED = 2000
"""Number of rows, from the start, whose language is identified."""
TOO_SHORT = 40
"""Number of characters below which the language of a row cannot be identified."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Statistics of the rows of a data set, by side or label if there are any."""

    kind: str
    rows: int
    labels: Mapping[str, int] = field(default_factory=dict)
    """Number of rows of each label."""
    characters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Lengths of prompts and of each side: min, median, mean, p90, p99, max."""
    words: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Lengths in words."""
    turns: Mapping[str, float] = field(default_factory=dict)
    """Number of turns of a conversation, without system turns."""
    beginnings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """First two words of prompts and of each side, the most frequent ones first."""
    repeated_rows: float = 0.0
    """Share of rows that equal an earlier row."""
    repeated_prompts: float = 0.0
    """Share of rows with the prompt of an earlier row."""
    chosen_longer: float | None = None
    """Share of pairs whose chosen answer has more characters."""
    margin_correlation: float | None = None
    """Pearson's correlation of the score (of pairs: the margin) with the answer's length (of pairs: by
    how much the chosen one is longer)."""
    languages: Mapping[str, int] = field(default_factory=dict)
    """Number of rows of each language among the first `JUDGED`."""
    groups: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Number of texts of each side or label with a word of each group."""

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as values for JSON."""
        return dict(vars(self))


def survey_rows(
    rows: Iterable[Row],
    *,
    groups: Mapping[str, Iterable[str]] | None = None,
    language: Callable[[str], str] | None = None,
) -> Survey:
    """Compute statistics of `rows`; memory holds their lengths and keys, and no text.

    Args:
        rows: Rows of one kind.
        groups: Words to count, by the name of the group.
        language: Function from a text to the code of its language, if wanted.
    """
    seen = _SurveyBuilder(
        {name: frozenset(words) for name, words in (groups or {}).items()}, language
    )
    for row in rows:
        seen.see(row)
    return seen.survey()


class _SurveyBuilder:
    def __init__(
        self, groups: Mapping[str, frozenset[str]], language: Callable[[str], str] | None
    ) -> None:
        self._groups, self._language = groups, language
        self._kind, self._rows, self._longer = "", 0, 0
        self._labels: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._characters: dict[str, list[int]] = {}
        self._words: dict[str, list[int]] = {}
        self._turns: list[int] = []
        self._beginnings: dict[str, Counter[str]] = {}
        self._found: dict[str, Counter[str]] = {}
        self._keys: set[bytes] = set()
        self._prompts: set[int] = set()
        self._again = {"rows": 0, "prompts": 0}
        self._scores: list[tuple[float, float]] = []

    def see(self, row: Row) -> None:
        self._kind = self._kind or KINDS[type(row)]
        self._rows += 1
        label = str(row.label) if isinstance(row, ClassifiedText | LabeledCompletion) else ""
        if label:
            self._labels[label] += 1
        if messages := getattr(row, "messages", None):
            self._turns.append(sum(message["role"] != "system" for message in messages))
        for side, text in _sides(row, label):
            self._measure(side, text)
        self._repeats(row)
        self._compare(row)
        if self._language is not None and self._rows <= JUDGED:
            text = " ".join(text for _, role, text in texts_of(row) if role != "system")
            if len(text) >= TOO_SHORT:
                self._languages[self._language(text)] += 1

    def _measure(self, side: str, text: str) -> None:
        words = _WORD.findall(text)
        self._characters.setdefault(side, []).append(len(text))
        self._words.setdefault(side, []).append(len(words))
        if words:
            first = " ".join(words[:2]).lower()
            self._beginnings.setdefault(side, Counter())[first] += 1
        if self._groups:
            there = {word.lower() for word in words}
            for name, group in self._groups.items():
                found = self._found.setdefault(name, Counter())
                found[side] += not there.isdisjoint(group)

    def _repeats(self, row: Row) -> None:
        key, asked = content_key(row), content_key(Text(text=prompt_text(row)))
        self._again["rows"] += key in self._keys
        self._keys.add(key)
        number = int.from_bytes(asked[:8])
        self._again["prompts"] += number in self._prompts
        self._prompts.add(number)

    def _compare(self, row: Row) -> None:
        if isinstance(row, Preference):
            longer = _length(row.chosen) - _length(row.rejected)
            self._longer += longer > 0
            if row.margin is not None:
                self._scores.append((row.margin, longer))
        elif isinstance(row, ScoredCompletion):
            self._scores.append((row.score, _length(row.completion)))
        elif isinstance(row, Ranking):
            pairs = zip(row.scores, row.completions, strict=True)
            self._scores += [(score, _length(completion)) for score, completion in pairs]

    def survey(self) -> Survey:
        rows = max(1, self._rows)
        return Survey(
            kind=self._kind,
            rows=self._rows,
            labels=dict(self._labels.most_common()),
            characters={
                side: summarize_lengths(lengths) for side, lengths in self._characters.items()
            },
            words={side: summarize_lengths(lengths) for side, lengths in self._words.items()},
            turns=summarize_lengths(self._turns),
            beginnings={
                side: dict(counts.most_common(BEGINNINGS))
                for side, counts in self._beginnings.items()
            },
            repeated_rows=self._again["rows"] / rows,
            repeated_prompts=self._again["prompts"] / rows,
            chosen_longer=self._longer / rows if self._kind == "preference" else None,
            margin_correlation=_correlation(self._scores),
            languages=dict(self._languages.most_common()),
            groups={
                name: dict(counts) for name, counts in self._found.items() if any(counts.values())
            },
        )


def _sides(row: Row, label: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of a row, each with its side or label."""
    if isinstance(row, Text):
        yield "text", row.text
    elif isinstance(row, ClassifiedText):
        yield f"text, {label}", " ".join(filter(None, (row.text, row.pair)))
    else:
        yield "prompt", prompt_text(row)
        for name, role, text in texts_of(row):
            # Assistant turns within a prompt are not trained.
            if role == "assistant" and name != "prompt" and not isinstance(row, Prompt):
                yield _side(name, label), text


def _side(name: str, label: str) -> str:
    if label:
        return f"answer, {label}"
    return name if name in ("chosen", "rejected") else "answer"


def _length(messages: Iterable[Mapping[str, Any]]) -> int:
    return sum(len(message["content"]) for message in messages)


def _correlation(pairs: list[tuple[float, float]]) -> float | None:
    """Return Pearson's correlation; None if one of the two does not vary."""
    if len(pairs) < 2:
        return None
    means = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    products = [(a - means[0], b - means[1]) for a, b in pairs]
    both = sum(a * b for a, b in products)
    alone = sum(a * a for a, _ in products) * sum(b * b for _, b in products)
    return float(both / alone**0.5) if alone else None
