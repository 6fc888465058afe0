"""Reward functions of our own: length, format, exact match and regular expression."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from aligner.errors import DataError, StageError
from aligner.registry import Completion, ExtensionOptions, RewardFunction


class LengthOptions(ExtensionOptions):
    """Which lengths are good."""

    minimum: int = Field(0, ge=0)
    """Shortest good response, in tokens."""
    maximum: int = Field(..., gt=0)
    """Longest good response, in tokens."""
    margin: int = Field(32, gt=0)
    """Tokens outside the good lengths over which the reward falls from 0 to −1."""

    @model_validator(mode="after")
    def _in_order(self) -> LengthOptions:
        if self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        return self


class Length(RewardFunction):
    """0 for a response of good length, falling to −1 outside: longer never pays."""

    name = "length"
    Options: ClassVar[type[ExtensionOptions]] = LengthOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        options = self.options
        assert isinstance(options, LengthOptions)
        outside = [
            max(options.minimum - one.tokens, one.tokens - options.maximum, 0)
            for one in completions
        ]
        return [-min(tokens / options.margin, 1.0) for tokens in outside]


class FormatOptions(ExtensionOptions):
    """What a well-formed response is; whatever is given must hold."""

    starts_with: str | None = None
    """Text it starts with, white space before it aside."""
    ends_with: str | None = None
    """Text it ends with, white space after it aside."""
    contains: tuple[str, ...] = ()
    """Texts it contains, in this order."""
    is_json: bool = False
    """It is JSON as a whole."""

    @model_validator(mode="after")
    def _something(self) -> FormatOptions:
        if not (self.starts_with or self.ends_with or self.contains or self.is_json):
            raise ValueError("give at least one of starts_with, ends_with, contains and is_json")
        return self


class Format(RewardFunction):
    """The share of the asked conditions that a response meets, from 0 to 1."""

    name = "format"
    Options: ClassVar[type[ExtensionOptions]] = FormatOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [self._one(completion.text.strip()) for completion in completions]

    def _one(self, text: str) -> float:
        options = self.options
        assert isinstance(options, FormatOptions)
        met: list[bool] = []
        if options.starts_with:
            met.append(text.startswith(options.starts_with))
        if options.ends_with:
            met.append(text.endswith(options.ends_with))
        if options.contains:
            met.append(_in_order(options.contains, text))
        if options.is_json:
            met.append(_is_json(text))
        return sum(met) / len(met)


class ExactMatchOptions(ExtensionOptions):
    """What a response is compared with."""

    column: str = "answer"
    """The column of the prompt's row that holds the right answer."""
    ignore_case: bool = False
    """Compare without regard to case."""
    last_line: bool = False
    """Compare the last line of the response only."""


class ExactMatch(RewardFunction):
    """1 for a response that is the row's answer, white space at the ends aside; else 0."""

    name = "exact_match"
    Options: ClassVar[type[ExtensionOptions]] = ExactMatchOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """One number a completion.

        Raises:
            DataError: a row has no such column.
        """
        return [self._one(completion) for completion in completions]

    def _one(self, completion: Completion) -> float:
        options = self.options
        assert isinstance(options, ExactMatchOptions)
        if options.column not in completion.row:
            raise DataError(
                f"reward function 'exact_match' finds no column {options.column!r} beside the prompt",
                hint=f"the row has: {', '.join(sorted(completion.row)) or 'none'}",
            )
        said, right = completion.text.strip(), str(completion.row[options.column]).strip()
        if options.last_line and said:
            said = said.splitlines()[-1].strip()
        if options.ignore_case:
            said, right = said.casefold(), right.casefold()
        return float(said == right)


class RegexOptions(ExtensionOptions):
    """What is searched for, and how long that may take."""

    pattern: str
    """Regular expression of Python's `re`, searched for anywhere in the response."""
    seconds: float = Field(5.0, gt=0, le=60)
    """Longest time for all responses of an iteration; beyond it the step stops."""

    @model_validator(mode="after")
    def _is_an_expression(self) -> RegexOptions:
        # Compiled where it is also run: a pattern can take for ever to compile, too.
        error = _search(self.pattern, [], seconds=self.seconds)
        if isinstance(error, str):
            raise ValueError(f"pattern {self.pattern!r}: {error}")
        return self


class Regex(RewardFunction):
    """1 for a response in which a regular expression is found; else 0."""

    name = "regex"
    Options: ClassVar[type[ExtensionOptions]] = RegexOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """One number a completion.

        Raises:
            StageError: the expression takes too long; it is stopped, and nothing hangs.
        """
        options = self.options
        assert isinstance(options, RegexOptions)
        texts = [completion.text for completion in completions]
        found = _search(options.pattern, texts, seconds=options.seconds)
        if isinstance(found, str):
            raise StageError(
                f"reward function 'regex' with pattern {options.pattern!r}: {found}",
                hint="nested repetition such as (a+)+ takes time that doubles with every letter; "
                "write the pattern without it, or raise `seconds`",
            )
        return found


# `re` cannot be interrupted from within: only a process can be ended from outside.
_SEARCHER = """
import json, re, sys
asked = json.load(sys.stdin)
try:
    pattern = re.compile(asked["pattern"])
except (re.error, RecursionError, OverflowError) as error:
    json.dump(str(error), sys.stdout)
else:
    json.dump([float(bool(pattern.search(text))) for text in asked["texts"]], sys.stdout)
"""


def _search(pattern: str, texts: list[str], *, seconds: float) -> list[float] | str:
    """1 or 0 for each text, or why there is no answer."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCHER],
            input=json.dumps({"pattern": pattern, "texts": texts}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {seconds:g} s"
    if done.returncode:
        return f"the search failed with exit code {done.returncode}"
    answer: Any = json.loads(done.stdout)
    return answer  # type: ignore[no-any-return]


def _in_order(parts: Sequence[str], text: str) -> bool:
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


FUNCTIONS: tuple[type[RewardFunction], ...] = (Length, Format, ExactMatch, Regex)
