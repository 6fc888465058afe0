"""Reward function that searches a completion for a regular expression, with a time limit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from aligner import Completion, ExtensionOptions, RewardFunction, StageError


class RegexOptions(ExtensionOptions):
    """Regular expression and its time limit."""

    pattern: str
    """Regular expression of Python's `re`, searched for anywhere in the completion."""
    seconds: float = Field(5.0, gt=0, le=60)
    """Time limit for all completions of an iteration, in seconds; beyond it the step stops."""

    @model_validator(mode="after")
    def _check_pattern(self) -> RegexOptions:
        # Compiled in the same limited process that runs it: compiling can take forever, too.
        error = _search(self.pattern, [], seconds=self.seconds)
        if isinstance(error, str):
            raise ValueError(f"pattern {self.pattern!r}: {error}")
        return self


class RegexReward(RewardFunction):
    """Return 1 for a completion in which a regular expression is found; else 0."""

    name = "regex"
    Options: ClassVar[type[ExtensionOptions]] = RegexOptions

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number per completion.

        Raises:
            StageError: the search exceeded its time limit and was stopped.
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


# `re` cannot be interrupted from within: only a process can be stopped from outside.
_SEARCHER = """
import json, re, sys
request = json.load(sys.stdin)
try:
    pattern = re.compile(request["pattern"])
except (re.error, RecursionError, OverflowError) as error:
    json.dump(str(error), sys.stdout)
else:
    json.dump([float(bool(pattern.search(text))) for text in request["texts"]], sys.stdout)
"""


def _search(pattern: str, texts: list[str], *, seconds: float) -> list[float] | str:
    """Return 1 or 0 for each text, or the reason for having no result."""
    try:
        finished = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCHER],
            input=json.dumps({"pattern": pattern, "texts": texts}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the search took longer than {seconds:g} s"
    if finished.returncode:
        return f"the search failed with exit code {finished.returncode}"
    result: Any = json.loads(finished.stdout)
    return result  # type: ignore[no-any-return]
