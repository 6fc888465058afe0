"""Say why a cleaned row is to be left out: its length, language, repetition, or a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from aligner.data.context import DataContext
from aligner.data.curation.spec import Clean
from aligner.data.language import language_of
from aligner.data.row_texts import answers_of, full_text, prompt_text, texts_of
from aligner.data.rows import ClassifiedText, Preference, Prompt, Row, Text
from aligner.errors import AlignerError, DataError, ErrorGroup

Filter = Callable[[Row], str]
"""The reason to leave a row out, or nothing."""

PATTERN_SECONDS = 1.0
"""How long one search for a pattern in one text may take."""
RUN = 5
"""Words in a run that may repeat."""

_WORD = re.compile(r"\w+")


def filters(how: Clean, context: DataContext, option: str) -> list[Filter]:
    """What `how` asks to leave out, cheapest first; each is to be given cleaned rows.

    Raises:
        DataError: a pattern is none, or a library that is needed is not installed.
    """
    found: list[Filter] = [_empty, *_lengths(how)]
    if how.drop_matching or how.keep_matching:
        found.append(_patterns(how, context, option))
    if how.max_repetition is not None:
        found.append(_repetitive(how.max_repetition))
    if how.languages is not None:
        found.append(_languages(how.languages, how.language_min_chars, context, option))
    return found


def _empty(row: Row) -> str:
    if isinstance(row, Preference) and row.chosen == row.rejected:
        return "chosen and rejected are identical after cleaning"
    if any(not one.strip() for one in answers_of(row)):
        return "an answer is empty after cleaning"
    # What is asked may be a picture or nothing; a text or a prompt that says nothing is of no use.
    if isinstance(row, Text | ClassifiedText) and not row.text.strip():
        return "the text is empty after cleaning"
    if isinstance(row, Prompt) and not prompt_text(row).strip():
        return "the prompt is empty after cleaning"
    return ""


def _lengths(how: Clean) -> list[Filter]:
    def by_whole(row: Row) -> str:
        length = sum(len(text) for _, _, text in texts_of(row))
        if how.min_chars is not None and length < how.min_chars:
            return f"fewer than {how.min_chars} characters"
        if how.max_chars is not None and length > how.max_chars:
            return f"more than {how.max_chars} characters"
        return ""

    def by_answer(row: Row) -> str:
        lengths = [len(one) for one in answers_of(row)]
        if how.min_answer_chars is not None and lengths and min(lengths) < how.min_answer_chars:
            return f"an answer of fewer than {how.min_answer_chars} characters"
        if how.max_answer_chars is not None and lengths and max(lengths) > how.max_answer_chars:
            return f"an answer of more than {how.max_answer_chars} characters"
        return ""

    asked = [
        (by_whole, how.min_chars, how.max_chars),
        (by_answer, how.min_answer_chars, how.max_answer_chars),
    ]
    return [one for one, *limits in asked if limits != [None, None]]


def _patterns(how: Clean, context: DataContext, option: str) -> Filter:
    # Comes with transformers, untyped; unlike `re` it can be stopped.
    import regex  # type: ignore[import-untyped]

    where, errors = context.at(option), list[AlignerError]()

    def compiled(patterns: Sequence[str], name: str) -> list[Any]:
        made = []
        for pattern in patterns:
            try:
                made.append(regex.compile(pattern))
            except regex.error as error:
                what = f"clean.{name}: {pattern!r} is no regular expression: {error}"
                errors.append(DataError(what, where=where))
        return made

    drop = compiled(how.drop_matching, "drop_matching")
    keep = compiled(how.keep_matching, "keep_matching")
    ErrorGroup.raise_if_any(errors)

    def finds(pattern: Any, text: str, row: Row) -> bool:
        try:
            return pattern.search(text, timeout=PATTERN_SECONDS) is not None
        except TimeoutError:
            what = (
                f"the pattern {pattern.pattern!r} takes more than {PATTERN_SECONDS:g} s on this row"
            )
            hint = "avoid repeats inside repeats, such as (a+)+"
            raise DataError(what, where=row.origin or where, hint=hint) from None

    def by_pattern(row: Row) -> str:
        said = [text for _, _, text in texts_of(row)]
        for pattern in drop:
            if any(finds(pattern, text, row) for text in said):
                return f"matches {pattern.pattern!r}"
        if keep and not any(finds(pattern, text, row) for pattern in keep for text in said):
            return "matches no pattern of keep_matching"
        return ""

    return by_pattern


def _repetitive(limit: float) -> Filter:
    def by_repetition(row: Row) -> str:
        over = any(repetition(text) > limit for _, _, text in texts_of(row))
        return f"more than {limit:.0%} of a text repeats" if over else ""

    return by_repetition


def repetition(text: str) -> float:
    """The share of a text that stood in it before: of its characters in lines, or of its words in runs.

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
    for start in range(len(words) - RUN + 1):
        run = tuple(words[start : start + RUN])
        if run in seen:
            covered[start : start + RUN] = b"\1" * RUN
        seen.add(run)
    return max(by_lines, sum(covered) / max(1, len(words)))


def _languages(allowed: Sequence[str], shortest: int, context: DataContext, option: str) -> Filter:
    identify = language_of(context, option, allowed=allowed)

    def by_language(row: Row) -> str:
        said = full_text(row)
        if len(said) < shortest:
            return ""
        language = identify(said)
        # What is told to be in none is code, or metrics.
        return "" if language in (*allowed, "zxx") else f"in another language: {language}"

    return by_language
