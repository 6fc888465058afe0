"""Every error a user can cause, written one way: where it is, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import ClassVar


class AlignerError(Exception):
    """Something the user can put right. The command line prints it without a traceback."""

    exit_code: ClassVar[int] = 2
    """What the process ends with: 2 refused, 1 failed, 75 stopped and resumable."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line}\n  hint: {self.hint}" if self.hint else line


class RecipeError(AlignerError):
    """The recipe file cannot be read as one."""


class ChainError(AlignerError):
    """The recipe reads well, but its stages do not fit together."""


class DataError(AlignerError):
    """The data is missing, malformed, or would silently do harm."""


class ModelError(AlignerError):
    """A model or tokenizer cannot be used as asked."""


class PluginError(AlignerError):
    """A plugin breaks its contract with aligner."""


class StageError(AlignerError):
    """A stage ran and did not do what it declared, or what it must."""

    exit_code = 1


class GateError(StageError):
    """A metric of a finished step is out of the bounds the recipe sets."""


class Stopped(AlignerError):
    """The run was interrupted; whatever had finished is kept, and it can go on."""

    exit_code = 75


class ErrorGroup(AlignerError):
    """Several errors at once, in the order they were found, each said once."""

    def __init__(self, errors: Sequence[AlignerError]) -> None:
        seen: dict[str, AlignerError] = {}
        for error in errors:
            for one in error.errors if isinstance(error, ErrorGroup) else (error,):
                seen.setdefault(str(one), one)
        self.errors: tuple[AlignerError, ...] = tuple(seen.values())
        super().__init__("\n".join(str(one) for one in self.errors))

    @classmethod
    def raise_if_any(cls, errors: Sequence[AlignerError]) -> None:
        """Raise the one error itself, or all of them together, or nothing."""
        if errors:
            together = cls(errors)
            raise together.errors[0] if len(together.errors) == 1 else together


class ErrorCollector:
    """Goes on after an error, to find the others: `with errors: …` keeps an AlignerError for later.

    >>> errors = ErrorCollector()
    >>> with errors:
    ...     raise DataError("no rows")
    >>> [str(error) for error in errors.found]
    ['no rows']
    """

    def __init__(self) -> None:
        self.found: list[AlignerError] = []

    def __enter__(self) -> ErrorCollector:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, AlignerError):
            return False
        self.found.append(error)
        return True

    def raise_if_any(self) -> None:
        """Raise what was found, all together."""
        ErrorGroup.raise_if_any(self.found)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the known word nearest to `word`, or list them all.

    >>> did_you_mean("dqo", ["sft", "dpo"])
    "did you mean 'dpo'?"
    >>> did_you_mean("xyz", ["sft", "dpo"])
    'known: dpo, sft'
    """
    known = sorted(known)
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
