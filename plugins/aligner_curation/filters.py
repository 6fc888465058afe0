"""Decide why a cleaned row is left out: its length, language, repetition, or a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from aligner import AlignerError, OperationContext
from aligner.kit.declare import DataError, ErrorGroup
from aligner.kit.rows import (
    ClassifiedText,
    Preference,
    Prompt,
    Row,
    Text,
    answers_of,
    full_text,
    language_of,
    prompt_text,
    texts_of,
)
from aligner_curation.options import Clean

RowFilter = Callable[[Row], str]
"""Returns the reason to leave a row out, or an empty text to keep it."""

PATTERN_SECONDS = 1.0
"""Time limit for the search of one pattern in one text."""
NGRAM = 5
"""Number of words in a sequence that counts as repeated."""

_WORD = re.compile(r"\w+")


def row_filters(options: Clean, context: OperationContext) -> list[RowFilter]:
    """Return the filters that `options` ask for, cheapest first; they expect cleaned rows.

    Raises:
        DataError: a pattern is invalid, or a required library is not installed.
    """
    filters: list[RowFilter] = [_empty, *_lengths(options)]
    if options.drop_matching or options.keep_matching:
        filters.append(_patterns(options, context))
    if options.max_repetition is not None:
        filters.append(_repetitive(options.max_repetition))
    if options.languages is not None:
        filters.append(_languages(options.languages, options.language_min_chars, context))
    return filters


def _empty(row: Row) -> str:
    if isinstance(row, Preference) and row.chosen == row.rejected:
        return "chosen and rejected are identical after cleaning"
    if any(not answer.strip() for answer in answers_of(row)):
        return "an answer is empty after cleaning"
    # A question may be empty, for example before a picture; an empty text or prompt is of no use.
    if isinstance(row, Text | ClassifiedText) and not row.text.strip():
        return "the text is empty after cleaning"
    if isinstance(row, Prompt) and not prompt_text(row).strip():
        return "the prompt is empty after cleaning"
    return ""


def _lengths(options: Clean) -> list[RowFilter]:
    least, most = options.min_chars, options.max_chars
    least_answer, most_answer = options.min_answer_chars, options.max_answer_chars

    def by_row(row: Row) -> str:
        length = sum(len(text) for _, _, text in texts_of(row))
        if least is not None and length < least:
            return f"fewer than {least} characters"
        if most is not None and length > most:
            return f"more than {most} characters"
        return ""

    def by_answer(row: Row) -> str:
        lengths = [len(answer) for answer in answers_of(row)]
        if least_answer is not None and lengths and min(lengths) < least_answer:
            return f"an answer of fewer than {least_answer} characters"
        if most_answer is not None and lengths and max(lengths) > most_answer:
            return f"an answer of more than {most_answer} characters"
        return ""

    filters: list[RowFilter] = [by_row] if (least, most) != (None, None) else []
    return filters + ([by_answer] if (least_answer, most_answer) != (None, None) else [])


def _patterns(options: Clean, context: OperationContext) -> RowFilter:
    # A dependency of transformers, untyped; unlike `re` it has a time limit.
    import regex  # type: ignore[import-untyped]

    errors: list[AlignerError] = []

    def compile_all(patterns: Sequence[str], name: str) -> list[Any]:
        compiled = []
        for pattern in patterns:
            try:
                compiled.append(regex.compile(pattern))
            except regex.error as error:
                what = f"clean.{name}: {pattern!r} is not a regular expression: {error}"
                errors.append(DataError(what, where=context.where))
        return compiled

    drop = compile_all(options.drop_matching, "drop_matching")
    keep = compile_all(options.keep_matching, "keep_matching")
    ErrorGroup.raise_if_any(errors)

    def matches(pattern: Any, text: str, row: Row) -> bool:
        try:
            return pattern.search(text, timeout=PATTERN_SECONDS) is not None
        except TimeoutError:
            seconds = f"{PATTERN_SECONDS:g} s"
            what = f"the pattern {pattern.pattern!r} takes more than {seconds} on this row"
            hint = "avoid nested repetition such as (a+)+"
            raise DataError(what, where=row.origin or context.where, hint=hint) from None

    def by_pattern(row: Row) -> str:
        texts = [text for _, _, text in texts_of(row)]
        for pattern in drop:
            if any(matches(pattern, text, row) for text in texts):
                return f"matches {pattern.pattern!r}"
        if keep and not any(matches(pattern, text, row) for pattern in keep for text in texts):
            return "matches no pattern of keep_matching"
        return ""

    return by_pattern


def _repetitive(limit: float) -> RowFilter:
    def by_repetition(row: Row) -> str:
        over = any(repetition(text) > limit for _, _, text in texts_of(row))
        return f"more than {limit:.0%} of a text repeats" if over else ""

    return by_repetition


def repetition(text: str) -> float:
    """Return the share of a text that repeats: of its characters by lines, or of its words by 5-grams.

    >>> repetition("the same line\\nthe same line\\nanother one"), repetition("a few words")
    (0.35135135135135137, 0.0)
    """
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    seen: set[object] = set()
    repeated = 0
    for line in lines:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    by_lines = repeated / max(1, sum(map(len, lines)))
    words = _WORD.findall(text.lower())
    covered = bytearray(len(words))
    for start in range(len(words) - NGRAM + 1):
        ngram = tuple(words[start : start + NGRAM])
        if ngram in seen:
            covered[start : start + NGRAM] = b"\1" * NGRAM
        seen.add(ngram)
    return max(by_lines, sum(covered) / max(1, len(words)))


def _languages(allowed: Sequence[str], shortest: int, context: OperationContext) -> RowFilter:
    identify = language_of(context.memo, context.where, allowed=allowed, option="clean.languages")

    def by_language(row: Row) -> str:
        text = full_text(row)
        if len(text) < shortest:
            return ""
        language = identify(text)
        # "zxx" stands for no linguistic content: code, or numbers.
        return "" if language in (*allowed, "zxx") else f"in another language: {language}"

    return by_language
